"""kopf: it watches the ModelEngines and tells of each change; everything else is the reconciler's.

Nothing of kopf writes to an object: no finalizer, no annotation, no Event. Known traps of its watches, and what stands
against them: an object deleted while the watch was down is never told (our own list finds it), an error in a watch ends
kopf (and so the process, which begins anew), a watcher might die while the process lives on (the liveness probe says
so). What was tried is in docs/decisions/20261124.kopf-traps.md.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from typing import Any

import kopf

from modelengine import kinds
from modelengine_kube.api import Object
from modelengine_kube.copies import Copy

log = logging.getLogger(__name__)

# How kopf names the task of a watch; a test of ours fails if that changes.
WATCHER_TASK = "watcher for "
# After this long without an event or a bookmark the connection is taken for dead.
SILENCE_S = 70.0

Check = Callable[[], None]


class Forever:
    """Delays between tries without an end: kopf gives a watch up for good when its list of delays runs out."""

    def __iter__(self) -> Iterator[float]:
        for delay_s in (0.5, 1.0, 2.0, 4.0, 8.0):
            yield delay_s * random.uniform(0.5, 1.0)
        while True:
            yield random.uniform(8.0, 16.0)


def registry_of(copy: Copy, probe: Mapping[str, Check]) -> kopf.OperatorRegistry:
    """The handlers. The liveness probe calls each value of `probe`, which raises when all is not well."""
    registry = kopf.OperatorRegistry()

    @kopf.on.startup(registry=registry)
    async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.posting.enabled = False
        settings.scanning.disabled = True
        settings.watching.server_timeout = 300
        settings.watching.client_timeout = 330
        settings.watching.connect_timeout = 10
        settings.watching.inactivity_timeout = SILENCE_S
        settings.networking.request_timeout = 30
        settings.networking.connect_timeout = 10
        settings.networking.error_backoffs = Forever()
        settings.process.ultimate_exiting_timeout = 20

    @kopf.on.login(registry=registry)
    async def log_in(**kwargs: Any) -> kopf.ConnectionInfo | None:
        # Not kopf's default, which would import the official client's typed half.
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.event(kinds.GROUP, kinds.VERSION, kinds.PLURAL, registry=registry)
    async def changed(event: Mapping[str, Any], **_: Any) -> None:
        obj: Object = event["object"]
        if event["type"] == "DELETED":
            copy.forget(obj)
        else:
            copy.learn(obj)

    for name, check in probe.items():
        # Else kopf would try a probe that fails again and again, and never answer.
        kopf.on.probe(id=name, registry=registry, errors=kopf.ErrorsMode.PERMANENT)(_probe(check))
    return registry


def _probe(check: Check) -> Callable[..., Awaitable[None]]:
    # Async: kopf runs others in a thread, where no task can be seen.
    async def run(**_: Any) -> None:
        try:
            check()
        except Exception as failure:
            # One line; what kopf and its web server would say of it, twice and with a stack each, is turned off.
            log.warning("not healthy: %s", failure)
            raise

    return run


def check_watchers(namespaces: Collection[str]) -> None:
    """Raises when a watch that kopf should keep has no task that lives."""
    alive = [task.get_name() for task in asyncio.all_tasks() if not task.done()]
    watchers = sum(name.startswith(WATCHER_TASK) for name in alive)
    wanted = max(len(namespaces), 1)
    if watchers < wanted:
        raise RuntimeError(f"{watchers} of {wanted} watches live")
