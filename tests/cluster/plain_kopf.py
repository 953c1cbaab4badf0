"""An operator as kopf's tutorial would write it: the control of test_operator_watches.py, which ours is compared with.

Its health says which ModelEngines it knows of. `PLAIN_BACK_OFFS` are kopf's delays between tries, else its own.
"""

from __future__ import annotations

import os
from typing import Any

import kopf

from modelengine import kinds


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.posting.enabled = False
    settings.scanning.disabled = True
    if given := os.environ.get("PLAIN_BACK_OFFS"):
        settings.networking.error_backoffs = [float(delay) for delay in given.split(",")]


@kopf.on.login()
def log_in(**kwargs: Any) -> kopf.ConnectionInfo | None:
    return kopf.login_with_kubeconfig(**kwargs)


@kopf.index(kinds.GROUP, kinds.VERSION, kinds.PLURAL)
def known(name: str, **_: Any) -> dict[str, bool]:
    return {name: True}


@kopf.on.probe()
def names(known: kopf.Index[str, bool], **_: Any) -> list[str]:
    return sorted(known)


if __name__ == "__main__":
    kopf.run(
        standalone=True,
        namespaces=[os.environ["MODELENGINE_NAMESPACE"]],
        liveness_endpoint=f"http://127.0.0.1:{os.environ['MODELENGINE_HEALTH_PORT']}/healthz",
    )
