"""The front door as a process: settings, parts, server. `python -m modelengine_gateway`."""

from __future__ import annotations

import os

from modelengine import announce
from modelengine_api import logs, programs, serving
from modelengine_api.connections import Bounds
from modelengine_gateway import app, memory, settings


def main() -> None:
    chosen = settings.from_env(os.environ)
    logs.configure(chosen.log_level, chosen.log_format)
    if chosen.registry is settings.RegistryKind.CONFIG_MAPS:
        from modelengine_gateway import cluster

        cluster.require()
    door = app.create(chosen)
    memory.settle()
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
