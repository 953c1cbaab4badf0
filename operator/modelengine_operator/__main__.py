"""The operator as a process: settings, parts, kopf. `python -m modelengine_operator`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time

import kopf
from pythonjsonlogger.json import JsonFormatter

from modelengine import errors, kinds
from modelengine.env import LogFormat
from modelengine.exposition import Exposition
from modelengine_kube import connect, resources
from modelengine_kube.api import KubeApi, Object
from modelengine_kube.errors import KubeError
from modelengine_kube.reflector import Reflector
from modelengine_kube.resources import Resource
from modelengine_operator import handlers, metrics, settings
from modelengine_operator.asking import Asking
from modelengine_operator.cluster import Cluster
from modelengine_operator.leadership import Leadership
from modelengine_operator.reconciler import Reconciler
from modelengine_operator.relisting import Relisting
from modelengine_operator.settings import Settings
from modelengine_operator.transitions import Transitions
from modelengine_operator.world import CHILDREN, World

log = logging.getLogger(__name__)

RELEASE_S = 3.0


def main() -> int:
    try:
        chosen = settings.from_env(os.environ)
        configure_logging(chosen.log_level, chosen.log_format)
        asyncio.run(run(chosen))
    except (errors.ModelEngineError, KubeError) as failure:
        print(f"error: {failure.message}", file=sys.stderr)
        return 1
    return 0


def configure_logging(level: str, form: LogFormat) -> None:
    handler = logging.StreamHandler(sys.stdout)
    if form is LogFormat.JSON:
        handler.setFormatter(JsonFormatter("{asctime}{levelname}{name}{message}", style="{"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    # These tell of each event, and of each probe.
    for library in ("kopf", "aiohttp.access"):
        logging.getLogger(library).setLevel(max(logging.WARNING, logging.getLevelName(level)))
    # A probe that fails is told by `handlers`.
    for library in ("kopf.activities.probe", "aiohttp.server"):
        logging.getLogger(library).setLevel(logging.CRITICAL)


async def run(chosen: Settings) -> None:
    """Until SIGTERM. kopf handles the signals; with its end everything ends."""
    exposition = Exposition(metrics.PART, "0.0.0.0", chosen.metrics_port)
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(await connect.client())
        api = KubeApi(client, kinds.MANAGER)
        leadership = Leadership(api, chosen.namespace, chosen.identity)
        asking = await stack.enter_async_context(Asking())
        reflectors: dict[Resource, list[Reflector]] = {}

        def learn(resource: Resource, obj: Object) -> None:
            for reflector in reflectors[resource]:
                if reflector.namespace in (None, obj["metadata"]["namespace"]):
                    reflector.learn(obj)

        transitions = Transitions(chosen.identity, time.monotonic)
        cluster = Cluster(api, leadership)
        reconciler = Reconciler(chosen, cluster, leadership, asking, transitions, learn)
        measured = metrics.OperatorMetrics(reconciler, cluster, leadership)
        exposition.registry.register(measured)
        exposition.looks.append(measured.look)
        await stack.enter_async_context(exposition.served())
        reflectors |= follow(api, reconciler.world, chosen.namespaces)
        relisting = Relisting(api, reconciler.world.modelengines, chosen.namespaces)
        running = [
            asyncio.create_task(work, name=name)
            for name, work in (
                ("leadership", leadership.run_forever()),
                ("relisting", relisting.run_forever()),
                ("reconciler", reconcile_when_synced(reconciler, relisting, reflectors)),
                *((f"reflector {r.plural}", one.run_forever()) for r, several in reflectors.items() for one in several),
            )
        ]
        probe = {
            "watchers": lambda: handlers.check_watchers(chosen.namespaces),
            "relisting": relisting.check,
            "tasks": lambda: check_tasks(running),
        }
        log.info("ModelEngineOperator: running! namespaces: %s", ", ".join(chosen.namespaces) or "all")
        try:
            await kopf.operator(
                registry=handlers.registry_of(reconciler.world.modelengines, probe),
                standalone=True,
                clusterwide=not chosen.namespaces,
                namespaces=chosen.namespaces,
                liveness_endpoint=f"http://0.0.0.0:{chosen.health_port}/healthz",
            )
        except Exception as failure:
            # A watch has died: kopf has told all of it and ends itself. A new process begins with new watches.
            raise KubeError(f"kopf has ended: {failure}") from failure
        finally:
            for task in running:
                task.cancel()
            await asyncio.wait(running)
            with contextlib.suppress(KubeError, TimeoutError):
                async with asyncio.timeout(RELEASE_S):
                    await leadership.release()
            log.info("ModelEngineOperator clean_up!")


def follow(api: KubeApi, world: World, namespaces: tuple[str, ...]) -> dict[Resource, list[Reflector]]:
    """A reflector for each kind that we make, in each namespace."""
    selections = [(resource, kinds.OURS, "") for resource in (*CHILDREN, resources.PODS)]
    return {
        resource: [
            Reflector(api, resource, namespace, world.on_change(resource), labels=labels, fields=fields)
            for namespace in namespaces or (None,)
        ]
        for resource, labels, fields in [*selections, (resources.CONFIG_MAPS, "", kinds.ONLY_REGISTRIES)]
    }


async def reconcile_when_synced(
    reconciler: Reconciler, relisting: Relisting, reflectors: dict[Resource, list[Reflector]]
) -> None:
    """Before all is known nothing may be written: a pod not seen yet would be taken off the registry."""
    for reflector in (one for several in reflectors.values() for one in several):
        await reflector.wait_synced()
    await relisting.wait_synced()
    await reconciler.run_forever()


def check_tasks(running: list[asyncio.Task[None]]) -> None:
    """Raises when one of our own loops has ended."""
    for task in running:
        if task.done():
            raise RuntimeError(f"{task.get_name()} has ended") from (None if task.cancelled() else task.exception())


if __name__ == "__main__":
    sys.exit(main())
