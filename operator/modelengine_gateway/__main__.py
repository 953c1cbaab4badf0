"""The front door as a process: settings, parts, server. `python -m modelengine_gateway`."""

from __future__ import annotations

import gc
import os

from modelengine import announce
from modelengine_api import logs, programs, serving
from modelengine_api.connections import Bounds
from modelengine_gateway import app, settings

COLLECT_EVERY = (20_000, 50, 100)


def main() -> None:
    chosen = settings.from_env(os.environ)
    logs.configure(chosen.log_level, chosen.log_format)
    if chosen.registry is settings.RegistryKind.CONFIG_MAPS:
        from modelengine_gateway import cluster

        cluster.require()
    door = app.create(chosen)
    # Everything up to here stays: no collection need go through it, while streams stand still.
    gc.collect()
    gc.freeze()
    # What a stream leaves goes without the collector; let it look seldom, for it stops a thousand of them.
    gc.set_threshold(*COLLECT_EVERY)
    serving.serve(
        door.app,
        chosen.listen_host,
        chosen.listen_port,
        on_listening=lambda port: print(announce.name_server_runs(port, door.directory.kind), flush=True),
        on_stop=door.directory.close,
        grace_s=chosen.grace_s,
        bounds=Bounds(connections=chosen.max_connections),
    )
    print(announce.NAME_SERVER_GONE, flush=True)


if __name__ == "__main__":
    raise SystemExit(programs.exit_code(main))
