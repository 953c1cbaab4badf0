"""`up` with a stand-in for the engine: `python stand_in_up.py KIND`. The name server and the supervisor are real."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from modelengine.cli import up
from modelengine.cli.supervision import Supervision
from modelengine.cli.supervisor import Command, Supervisor

ENGINE = Path(__file__).with_name("stand_in_engine.py")


def main(kind: str) -> int:
    env = {**os.environ, "MODELENGINE_LISTEN_PORT": "0"}
    plan = Supervision(["engine demo"], grace_s=20, hint="try port {port}")
    key = up.own_key(env)
    name_server = Command([sys.executable, "-m", "modelengine_gateway"], env | key.for_name_server)
    engine = Command([sys.executable, str(ENGINE), kind], env | key.for_clients)
    return Supervisor(plan, name_server, {"engine demo": engine}, "127.0.0.1", key.text).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
