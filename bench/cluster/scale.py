"""The operator with 1, 100 and 1,000 ModelEngines: until all are ready, at rest, at a pod's change, after its restart.

Each case of each round has a control plane of its own. Pods are played by a process that makes them ready at once, so
what is left to measure is Kubernetes' own controllers and ours.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from bench import processes, stats
from bench.cluster import calls, fleet, kubelet, options, watching
from bench.cluster.fleet import Fleet, Moment
from bench.cluster.options import Options
from bench.cluster.watching import Listed, Seen, Watching
from bench.report import Table
from bench.stats import Sample
from cluster.admin import STRATEGIC
from cluster.harness.audit import READS, WRITES
from modelengine_kube import resources

CHANGED_S = 60.0
MADE_NOTES = (
    "ModelEngines are made, eight requests at a time: until the last is made, until all are ready, until the last",
    "write of the operator; its calls for each of them, without its Lease (by kind below); refused: answered with an",
    "error, as Conflict is. CPU seconds until it is quiet: of the operator, and of what shares the machine with it.",
)
KIND_NOTES = ("calls of the operator per ModelEngine until it is quiet, by verb and resource; `leases` by time alone",)
REST_NOTES = ("nothing changes: what the operator does all the same. Lists and watches are renewed now and then.",)
CHANGE_NOTES = (
    "a ready pod becomes unready (lost) and ready again (back): from the request that says so to the registry that",
    "shows it, as a watch tells. One pod after the other; then as many at once as are timed. Of all in one round.",
)
RESTART_NOTES = (
    "the operator is told to stop and started anew while all are ready: from the new process's start until it is",
    "healthy, until its last call (without its Lease); calls and writes until then.",
)


@dataclass
class Results:
    """Samples of each table, by case."""

    made: defaultdict[str, list[Sample]] = field(default_factory=lambda: defaultdict(list))
    kinds: defaultdict[str, list[Sample]] = field(default_factory=lambda: defaultdict(list))
    rest: defaultdict[str, list[Sample]] = field(default_factory=lambda: defaultdict(list))
    changes: defaultdict[str, list[Sample]] = field(default_factory=lambda: defaultdict(list))
    restart: defaultdict[str, list[Sample]] = field(default_factory=lambda: defaultdict(list))


def run(options_: Options) -> list[Table]:
    results = Results()
    chosen = options.cases(options_.sizes, options_.namespaces)
    for number in range(options_.rounds):
        for size, spread in chosen:
            say(f"round {number + 1}: {label(size, spread)}")
            # Minutes in which nothing may happen: once, with the most that can.
            is_last = number == options_.rounds - 1 and (size, spread) == chosen[-1]
            measure(results, options_, size, spread, options_.steady_s if is_last else 0)
    return [
        Table("scale: from nothing to ready", MADE_NOTES, results.made),
        Table("scale: calls of the operator", KIND_NOTES, results.kinds),
        Table(f"scale: {options_.steady_s:g} s at rest", REST_NOTES, results.rest),
        Table("scale: from a pod's change to the registry", CHANGE_NOTES, results.changes),
        Table("scale: a new operator", RESTART_NOTES, results.restart),
    ]


def say(what: str) -> None:
    print(f"  {what}", file=sys.stderr, flush=True)


def label(size: int, spread: int) -> str:
    return f"{size} in {spread} namespace{'s' if spread > 1 else ''}"


def measure(results: Results, options_: Options, size: int, spread: int, steady_s: float) -> None:
    case = label(size, spread)
    with fleet.running(size, spread) as site:
        made, kinds = make(site)
        results.made[case].append(made)
        for kind, sample in kinds.items():
            results.kinds[kind].append({case: sample["calls"]})
        say("all are ready")
        if steady_s:
            results.rest[case].append(rest(site, steady_s))
            say("has rested")
        with watching.registries(site.plane, None) as seen:
            for way, sample in change(site, seen, options_.changes).items():
                results.changes[f"{case}, {way}"].append(sample)
        say("has changed")
        site.wait_quiet()
        results.restart[case].append(restart(site))


def make(site: Fleet) -> tuple[Sample, dict[str, Sample]]:
    site.wait_quiet(also_reads=True)
    with watching.watching(site.plane, resources.MODELENGINES, None, fleet.ready_state) as seen:
        before = site.now()
        site.make()
        made_at = time.perf_counter()
        ready_at = max(site.wait_ready(seen))
    site.wait_quiet()
    after = site.now()
    asked = site.calls(before)
    quiet = calls.last_at(asked, WRITES) or before.wall
    cpu = {f"{name} s CPU": fleet.used(before, after, name) for name in ("operator", *others(before))}
    sample = {
        "made s": made_at - before.at,
        "all ready s": ready_at - before.at,
        "quiet s": quiet - before.wall,
        "writes each": calls.writes(asked) / site.size,
        "reads each": calls.reads(asked) / site.size,
        "refused": float(calls.refused(asked)),
        **cpu,
        "operator MB": processes.megabytes(site.operator.pid),
        "at most MB": site.peak_megabytes,
    }
    return sample, calls.by_kind(asked, site.size)


def others(moment: Moment) -> list[str]:
    return [name for name in moment.cpu if name != "operator"]


def rest(site: Fleet, seconds: float) -> Sample:
    before = site.now()
    time.sleep(seconds)
    after = site.now()
    asked = site.calls(before)
    return {
        "writes": float(calls.writes(asked)),
        "calls for the Lease": float(calls.of_the_lease(asked)),
        "reads": float(calls.reads(asked)),
        "operator ms CPU per s": fleet.used(before, after, "operator") / (after.at - before.at) * 1e3,
        "operator MB": processes.megabytes(site.operator.pid),
    }


def change(site: Fleet, seen: Watching[Listed], count: int) -> dict[str, Sample]:
    """Pods in turn; of fewer pods than `count` each has its turn several times when one follows the other."""
    pods = fleet.pods(site)
    cases: dict[str, Sample] = {}
    for way in ("one by one", "at once"):
        lost, back = [], []
        chosen = [pods[number % len(pods)] for number in range(count)] if way == "one by one" else pods[:count]
        together = 1 if way == "one by one" else len(chosen)
        for start in range(0, len(chosen), together):
            lost += latencies(site, seen, chosen[start : start + together], is_ready=False)
            back += latencies(site, seen, chosen[start : start + together], is_ready=True)
        cases[way] = {
            "pods": float(len(chosen)),
            **{
                f"{what} p{percent} ms": stats.percentile(values, percent) * 1e3
                for what, values in (("lost", lost), ("back", back))
                for percent in (50, 99, 100)
            },
        }
    return cases


def latencies(site: Fleet, seen: Watching[Listed], pods: Sequence[tuple[str, str]], is_ready: bool) -> list[float]:
    start = seen.count
    conditions = kubelet.status("", "", is_ready)["conditions"]

    def tell(pod: tuple[str, str]) -> float:
        sent = time.perf_counter()
        patch = {"status": {"conditions": conditions}}
        site.admin.merge(resources.PODS, *pod, patch, "status", kind=STRATEGIC)
        return sent

    with ThreadPoolExecutor(fleet.AT_ONCE) as pool:
        sent = list(pool.map(tell, pods))
    found = []
    for (namespace, name), at in zip(pods, sent, strict=True):

        def shows(told: Seen[Listed], namespace: str = namespace, name: str = name) -> bool:
            return told.state.namespace == namespace and (name in told.state.pods) is is_ready

        found.append(seen.first(shows, CHANGED_S, f"{name} is{'' if is_ready else ' not'} listed", start) - at)
    return found


def restart(site: Fleet) -> Sample:
    site.operator.stop()
    before = site.now()
    site.operator.start()
    site.operator.wait_ready()
    healthy_at = time.perf_counter()
    site.wait_quiet(also_reads=True)
    after = site.now()
    asked = site.calls(before)
    quiet = calls.last_at(asked, READS | WRITES) or before.wall
    return {
        "healthy s": healthy_at - before.at,
        "quiet s": quiet - before.wall,
        "calls": float(calls.counted(asked, READS | WRITES)),
        "writes": float(calls.writes(asked)),
        "operator s CPU": after.cpu["operator"],
        "operator MB": processes.megabytes(site.operator.pid),
    }
