"""The engines' pods of a cluster: lists them, and asks each what it says of itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from modelengine import errors, wire
from modelengine.cli import engines
from modelengine.cli.kubectl import Kubectl
from modelengine.kinds import APP, ENGINE_PORT, LABEL_APP, as_selector
from modelengine.protocol import EngineMethod

# Each is a process of its own.
AT_ONCE = 8


def listed(kubectl: Kubectl, all_namespaces: bool) -> list[dict[str, Any]]:
    where = kubectl.in_namespace(all_namespaces)
    found = kubectl.items("pods", *where, f"--selector={as_selector({LABEL_APP: APP})}")
    return sorted(found, key=lambda pod: (pod["metadata"]["namespace"], pod["metadata"]["name"]))


def infos(kubectl: Kubectl, pods: Sequence[engines.Object]) -> list[dict[str, Any] | None]:
    """The facts of each; None for one that does not run, or that may not be asked."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda pod: _info_if_any(kubectl, pod), pods))


def _info_if_any(kubectl: Kubectl, pod: engines.Object) -> dict[str, Any] | None:
    if not engines.is_running(pod):
        return None
    metadata = pod["metadata"]
    # Through the API server, which reaches every pod: it takes the right to `create pods/proxy`.
    path = f"/api/v1/namespaces/{metadata['namespace']}/pods/http:{metadata['name']}:{ENGINE_PORT}/proxy"
    try:
        answer = kubectl.text("create", f"--raw={path}/engine/{EngineMethod.INFO}", "--filename=-", stdin="{}")
        return dict(wire.unwrap(json.loads(answer)))
    except (errors.ModelEngineError, ValueError, TypeError):
        return None
