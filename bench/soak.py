"""Many short requests to one engine, of every kind, while it is frozen now and then: nobody is hurt, nothing is left.

`python -m bench.soak [--requests N]`: the real engine process with the demo model, over HTTP. At the end every answer
is compared with the one that the same request got alone, and places, cache, connections and memory are looked at.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from bench import host, processes, visits
from bench.processes import LOOPBACK
from bench.visits import Answer, Body, Kind, Visit

CONCURRENCY = 32
# Fewer than clients, so that some always wait.
PLACES = 24
# Questions that are asked alone first: one for so many requests, and no fewer than the second.
REQUESTS_FOR_EACH, FEWEST_QUESTIONS = 10, 20
# After each of these parts of all requests the engine is looked at; memory is compared from the first to the last.
QUARTERS = 4
FLAT_MB = 8.0
IDLE_WITHIN_S = 15.0
TIMEOUT_S = 120.0
SHOWN = 10


@dataclass(frozen=True, slots=True)
class Footprint:
    """Of the engine process, while nobody asks. `anonymous_mb` is memory that is backed by no file."""

    requests: int
    seconds: float
    anonymous_mb: float
    threads: int
    files: int


@dataclass(slots=True)
class Report:
    """What was seen. `wrong` says in words what should not have been."""

    came: Counter[Kind] = field(default_factory=Counter)
    left: int = 0
    freezes: int = 0
    wrong: list[str] = field(default_factory=list)
    footprints: list[Footprint] = field(default_factory=list)
    load: dict[str, int] = field(default_factory=dict)

    @property
    def grown_mb(self) -> float:
        return self.footprints[-1].anonymous_mb - self.footprints[0].anonymous_mb

    def lines(self) -> list[str]:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.came.items()))
        table = [
            f"{f.requests:9} {f.seconds:9.1f} {f.anonymous_mb:13.1f} {f.threads:8} {f.files:6}" for f in self.footprints
        ]
        return [
            f"requests  {self.came.total()}: {kinds}; {self.left} left before their answer's end",
            f"freezes   {self.freezes}",
            f"load      {self.load}",
            f"{'requests':>9} {'seconds':>9} {'anonymous MB':>13} {'threads':>8} {'files':>6}",
            *table,
            f"memory    {self.grown_mb:+.1f} MB from the first quarter's end to the last's",
            *(f"WRONG     {what}" for what in self.wrong[:SHOWN]),
            f"{len(self.wrong)} wrong",
        ]


def run(requests: int, seed: int = 1, freeze_s: float = 2.0) -> Report:
    """Starts an engine, and ends it. Raises BenchFailed where it ends by itself."""
    settings: dict[str, Any] = {
        "model_source": "demo",
        "device": "cpu",
        "max_context": visits.CONTEXT,
        "max_batch_size": PLACES,
        "log_level": "ERROR",
    }
    with processes.engine(**settings) as (child, port):
        return asyncio.run(Soak(port, child.pid, seed, freeze_s).run(requests))


class Soak:
    def __init__(self, port: int, pid: int, seed: int, freeze_s: float) -> None:
        self._url = f"http://{LOOPBACK}:{port}"
        self._process = psutil.Process(pid)
        self._chance = random.Random(seed)
        self._freeze_s = freeze_s
        self._began = time.monotonic()
        self._report = Report()

    async def run(self, requests: int) -> Report:
        questions = [visits.question(self._chance) for _ in range(max(FEWEST_QUESTIONS, requests // REQUESTS_FOR_EACH))]
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        connections = aiohttp.TCPConnector(limit=CONCURRENCY)
        async with aiohttp.ClientSession(self._url, timeout=timeout, connector=connections) as session:
            known = [(body, await _ask(session, body, Answer())) for body in questions]
            for quarter in range(QUARTERS):
                count = requests * (quarter + 1) // QUARTERS - requests * quarter // QUARTERS
                await self._burst(session, [visits.draw(self._chance, known) for _ in range(count)])
                await self._rest(session)
            for body, answer in known:
                self._compare(Visit(Kind.PLAIN, body, answer), await _ask(session, body, Answer()))
        return self._report

    async def _burst(self, session: aiohttp.ClientSession, chosen: Sequence[Visit]) -> None:
        """All of them, so many at a time. Half-way the engine is frozen while the others go on asking."""
        numbered = iter(enumerate(chosen))

        async def client() -> None:
            for number, visit in numbered:
                if number == len(chosen) // 2:
                    await self._freeze()
                await self._visit(session, visit)

        await asyncio.gather(*(client() for _ in range(CONCURRENCY)))

    async def _freeze(self) -> None:
        """Stops the whole process in the middle of what it does."""
        self._report.freezes += 1
        self._process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(self._freeze_s)
        finally:
            self._process.send_signal(signal.SIGCONT)

    async def _visit(self, session: aiohttp.ClientSession, visit: Visit) -> None:
        self._report.came[visit.kind] += 1
        answer = Answer()
        try:
            async with asyncio.timeout(visit.leaves_after_s):
                await _ask(session, visit.body, answer)
        except TimeoutError:
            self._report.left += visit.kind is Kind.LEAVING
        except aiohttp.ClientResponseError as refused:
            if refused.status != visit.status:
                self._say(visit, f"HTTP {refused.status} {refused.message}")
            return
        except (aiohttp.ClientError, _StreamFailed) as failure:
            self._say(visit, repr(failure))
            return
        self._compare(visit, answer)

    def _compare(self, visit: Visit, answer: Answer) -> None:
        if visit.status != 200:
            self._say(visit, f"was answered instead of refused with {visit.status}")
        elif visit.kind is Kind.LEAVING:
            if not visit.expected.begins_with(answer):
                self._say(visit, f"got {answer} of {visit.expected}")
        elif not answer.says_what(visit.expected):
            self._say(visit, f"got {answer} instead of {visit.expected}")

    def _say(self, visit: Visit, what: str) -> None:
        self._report.wrong.append(f"{visit.kind} {visit.body}: {what}")

    async def _rest(self, session: aiohttp.ClientSession) -> None:
        """Waits until the engine has nothing to do, and looks at it."""
        report, until = self._report, time.monotonic() + IDLE_WITHIN_S
        while True:
            report.load = await _load(session)
            busy = {name: report.load[name] for name in ("running", "waiting", "blocks_used") if report.load[name]}
            if not busy or time.monotonic() > until:
                break
            await asyncio.sleep(0.02)
        failed = {"failed": report.load["failed"]} if report.load["failed"] else {}
        report.wrong += [f"{name} is {count} when nobody asks" for name, count in (busy | failed).items()]
        report.footprints.append(
            Footprint(
                report.came.total(),
                time.monotonic() - self._began,
                _anonymous_mb(self._process.pid),
                self._process.num_threads(),
                self._process.num_fds(),
            )
        )


class _StreamFailed(Exception):
    """The last line of a stream is an error."""


async def _ask(session: aiohttp.ClientSession, body: Body, answer: Answer) -> Answer:
    """Fills the answer as it comes. Raises ClientResponseError for a refusal, _StreamFailed for one that comes late."""
    async with session.post("/engine/inference", json=body) as response:
        if response.status != 200:
            text = await response.text()
            raise aiohttp.ClientResponseError(response.request_info, (), status=response.status, message=text)
        async for line in response.content:
            envelope = json.loads(line)
            if envelope["state"] != "ok":
                raise _StreamFailed(envelope["msg"])
            answer.take(envelope["msg"])
    return answer


async def _load(session: aiohttp.ClientSession) -> dict[str, int]:
    async with session.post("/engine/info", json={"model": visits.NAME}) as response:
        load: dict[str, int] = (await response.json())["msg"]["load"]
    return load


def _anonymous_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise processes.BenchFailed("this system does not tell a process's anonymous memory")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=10_000, help="default 10,000: minutes")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args(argv)


def main() -> int:
    chosen = parse()
    print("\n".join(host.describe(host.look())), flush=True)
    report = run(chosen.requests, chosen.seed)
    print("\n".join(report.lines()))
    if report.grown_mb > FLAT_MB:
        print(f"error: memory is not flat: more than {FLAT_MB:g} MB came in three quarters", file=sys.stderr)
    return int(bool(report.wrong) or report.grown_mb > FLAT_MB)


if __name__ == "__main__":
    raise SystemExit(main())
