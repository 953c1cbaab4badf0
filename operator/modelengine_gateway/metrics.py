"""The front door as Prometheus reads it, beside what `modelengine_api.metrics` counts of each request.

`app.py` wires it: the exposition calls `look` on the event loop, where directory and requests live, and makes the text
of what was seen in a thread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from modelengine.exposition import counter, gauge
from modelengine_api.metrics import Requests
from modelengine_gateway.directory import Directory
from modelengine_gateway.loads import Loads
from modelengine_gateway.reports import LoadReports

PART = "front-door"
MODEL = "model"


class FrontDoorMetrics(Collector):
    """What was seen at the last look."""

    def __init__(self, directory: Directory, requests: Requests, loads: Loads, reports: LoadReports) -> None:
        self._directory = directory
        self._loads = loads
        self._reports = reports
        self._requests = requests
        self._seen: Sequence[Metric] = ()
        self.look()

    def look(self) -> None:
        self._seen = [*self._open(), *self._upstream(), *self._replicas(), *self._followed()]

    def collect(self) -> Iterator[Metric]:
        yield from self._seen

    def _open(self) -> Iterator[Metric]:
        waiting: Counter[tuple[str, ...]] = Counter()
        running: Counter[tuple[str, ...]] = Counter()
        for model, has_begun in self._requests.open_requests():
            (running if has_begun else waiting)[model,] += 1
        yield gauge(
            "modelengine_front_door_requests_waiting",
            "Open requests to models of whose answers nothing has come yet; whole answers wait to their end.",
            (MODEL,),
            waiting,
        )
        yield gauge(
            "modelengine_front_door_requests_running", "Streamed answers that are being passed on.", (MODEL,), running
        )
        yield gauge(
            "modelengine_front_door_streams_open",
            "Open streams of all kinds, watches of the directory included.",
            (),
            {(): self._requests.streams_open},
        )

    def _upstream(self) -> Iterator[Metric]:
        yield counter(
            "modelengine_front_door_retries_total",
            "Replicas that were asked in vain before an answer began, by why; the next one is tried, if there is one.",
            ("error_type",),
            {(code,): count for code, count in self._requests.retries.items()},
        )
        yield counter(
            "modelengine_front_door_ejections_total",
            "Times that a replica was taken off the list because it did not answer.",
            (),
            {(): self._directory.ejections},
        )

    def _replicas(self) -> Iterator[Metric]:
        listed = {name: self._directory.services(*name) for name in self._directory.known()}
        yield gauge(
            "modelengine_front_door_replicas",
            "Replicas that may be asked, by name; 0 for a name that is known and has none now.",
            (MODEL, "protocol"),
            {(name, protocol): len(services) for (protocol, name), services in listed.items()},
        )
        yield gauge(
            "modelengine_front_door_replicas_reporting",
            "Those of them that say how busy they are; one that has said nothing for 6 s is none of them.",
            (MODEL, "protocol"),
            {
                (name, protocol): sum(self._loads.last_report(info) is not None for info in services)
                for (protocol, name), services in listed.items()
            },
        )

    def _followed(self) -> Iterator[Metric]:
        yield counter(
            "modelengine_front_door_load_report_failures_total",
            "Times that a replica's reports of its load broke off or could not be had, by why; it is asked again.",
            ("error_type",),
            {(code,): count for code, count in self._reports.failures.items()},
        )
        heard_s_ago = self._directory.details().get("heard_s_ago")
        yield gauge(
            "modelengine_front_door_registry_age_seconds",
            "Time since the API server last said something of the registries; none on one machine.",
            (),
            {} if heard_s_ago is None else {(): heard_s_ago},
        )
