"""An engine without a model as a process, for the tests of `up`: `python stand_in_engine.py KIND`.

KIND: `good` registers and answers, `slow` takes its time for each word, `broken` fails at its start, `stubborn` never
registers and ignores every polite wish to stop.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from fakes import FakeEngine
from modelengine.protocol import ServerInfo
from modelengine_api import serving
from modelengine_runtime.registration import Registration


def main(kind: str) -> None:
    if kind == "broken":
        print("error: the stand-in is broken", file=sys.stderr)
        raise SystemExit(1)
    if kind == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("stubborn is here", file=sys.stderr, flush=True)
        time.sleep(600)
    fake = FakeEngine(pause_s=0.2 if kind == "slow" else 0.0, words=[f"w{i} " for i in range(20)])
    registrations: list[Registration] = []

    def begin(port: int) -> None:
        registrations.append(Registration(os.environ["MODELENGINE_HOST"], ServerInfo("demo", "127.0.0.1", port)))
        registrations[0].start()

    async def leave() -> None:
        await registrations[0].stop()

    serving.serve(fake.app(), "127.0.0.1", 0, on_listening=begin, on_stop=leave, grace_s=20)


if __name__ == "__main__":
    main(sys.argv[1])
