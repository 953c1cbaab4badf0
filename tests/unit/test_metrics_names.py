"""Names: what is shown keeps to Prometheus' customs, and every query that we give away asks for what there is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics import parser

import shown_metrics
from modelengine_api import calls
from modelengine_api.calls import Call
from modelengine_api.metrics import MAX_MODELS, UNKNOWN, Requests
from shown_metrics import Shown

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "charts" / "modelengine" / "dashboards" / "modelengine.json"
PAGES = [ROOT / "docs" / "metrics.md"]
UNITS = ("seconds", "bytes", "tokens", "ratio", "info")
# What is counted in pieces has the plural of their name in the place of a unit.
PIECES = (
    "requests", "requests_running", "requests_waiting", "retries", "ejections", "replicas", "streams_open", "steps",
    "preemptions", "batch_places", "cache_blocks", "idle_blocks", "stage", "reconciles", "writes", "queue_length",
    "leading", "modelengines", "replicas_reporting", "failures",
)  # fmt: skip
# OpenTelemetry's and vLLM's names, and the process's, are not ours to choose.
OURS = ("modelengine_",)
LABELS = {
    "model", "gen_ai_request_model", "gen_ai_operation_name", "error_type", "outcome", "stage", "protocol", "part",
    "version", "kind", "result", "resource", "ready", "registry_namespace", "model_name", "block_size",
    "num_gpu_blocks", "cache_dtype", "enable_prefix_caching",
}  # fmt: skip
NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
BEGINNING = re.compile("(sum|min|max|rate|histogram_quantile)[ (]|modelengine_|gen_ai_|vllm:")
WORDS = {"sum", "min", "max", "by", "on", "rate", "histogram_quantile", "group_left", "label_values", "__rate_interval"}


@pytest.fixture(scope="module")
def shown() -> list[Shown]:
    with shown_metrics.registries() as found:
        return [metric for registry in found.values() for metric in shown_metrics.shown(registry)]


def test_the_page_lists_what_is_shown() -> None:
    assert shown_metrics.PAGE.read_text() == shown_metrics.page(), "run `make chart`"


def test_prometheus_own_strict_parser_takes_all_of_it() -> None:
    with shown_metrics.registries() as found:
        for part, registry in found.items():
            text = openmetrics.generate_latest(registry, version="1.0.0").decode()
            assert len(list(parser.text_string_to_metric_families(text))) > 10, part


def test_counters_end_in_total_and_only_they(shown: list[Shown]) -> None:
    for metric in shown:
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric


def test_a_name_ends_in_its_unit_or_in_what_is_counted(shown: list[Shown]) -> None:
    for name in (metric.name.removesuffix("_total") for metric in shown if metric.name.startswith(OURS)):
        assert name.endswith((*UNITS, *PIECES)), name


def test_labels_are_few_and_say_nothing_of_users(shown: list[Shown]) -> None:
    assert {label for metric in shown for label in metric.labels} == LABELS


def test_what_every_process_shows_and_what_dashboards_look_for_is_there(shown: list[Shown]) -> None:
    names = {metric.name for metric in shown}
    assert names >= {
        "gen_ai_server_request_duration_seconds",
        "gen_ai_server_time_to_first_token_seconds",
        "gen_ai_server_time_per_output_token_seconds",
        "modelengine_requests_running",
        "modelengine_requests_waiting",
        "modelengine_kv_cache_usage_ratio",
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
        "vllm:time_to_first_token_seconds",
        "vllm:e2e_request_latency_seconds",
        "vllm:prompt_tokens_total",
        "vllm:generation_tokens_total",
        "vllm:cache_config_info",
    }
    for name in ("modelengine_build_info", "process_cpu_seconds_total"):
        assert [metric.name for metric in shown].count(name) == 3


def queries(text: object) -> Iterator[str]:
    if isinstance(text, dict):
        for key, value in text.items():
            if key in ("expr", "definition", "query") and isinstance(value, str) and value != "prometheus":
                yield value
            yield from queries(value)
    elif isinstance(text, list):
        for item in text:
            yield from queries(item)


def asked_for(query: str) -> tuple[set[str], set[str]]:
    """The names of metrics and of labels in a query."""
    selectors = re.findall(r"\{(.*?)\}", query)
    grouped = re.findall(r"\b(?:by|on|group_left) ?\((.*?)\)", query)
    wanted = re.findall(r", (\w+)\)", query) if query.startswith("label_values") else []
    labels = {name for part in selectors for name in re.findall(r"(\w+)[=!]", part)}
    labels |= {name.strip() for part in grouped for name in part.split(",")} | set(wanted)
    rest = re.sub(r"\{.*?\}|\[.*?\]|\b(?:by|on|group_left) ?\(.*?\)", " ", query)
    if wanted:
        rest = rest.replace(f", {wanted[0]})", ")")
    return {name for name in NAME.findall(rest) if name not in WORDS}, labels


def of_pages() -> list[str]:
    """Queries in code: of one line, between backticks, that have the name of a metric."""
    quoted = [code for page in PAGES for code in re.findall(r"`([^`\n]+)`", page.read_text())]
    return [code for code in quoted if BEGINNING.match(code)]


def test_the_queries_of_the_dashboard_and_of_the_pages_ask_for_what_there_is(shown: list[Shown]) -> None:
    series = {name for metric in shown for name in metric.series}
    labels = {label for metric in shown for label in metric.labels} | {"le", "pod", "namespace"}
    dashboard = list(queries(json.loads(DASHBOARD.read_text())))
    assert len(dashboard) > 30
    for query in dashboard:
        names, used = asked_for(query)
        assert names, query
        assert names <= series, query
        assert used <= labels, query
    # A page may also speak of a whole histogram, of a label, or of the beginning of names.
    spoken_of = series | {metric.name for metric in shown} | labels | {"gen_ai_"}
    asked = [asked_for(query)[0] for query in of_pages()]
    assert len(asked) > 30
    assert set().union(*asked) - spoken_of == set()


@pytest.mark.parametrize(
    "query", ["sum(rate(modelengine_no_such_total[5m]))", "sum by (user) (modelengine_steps_total)"]
)
def test_a_query_for_what_there_is_not_would_be_found(shown: list[Shown], query: str) -> None:
    names, labels = asked_for(query)
    assert not (
        names <= {name for metric in shown for name in metric.series}
        and labels <= {label for metric in shown for label in metric.labels}
    )


def ended(requests: Requests, model: str, error: str = "") -> None:
    call = Call("id", operation="chat", model=model, error=error)
    requests.begin(call)
    requests.end(call, 0.01)


def test_a_hundred_thousand_names_that_nobody_serves_add_no_series() -> None:
    registry = CollectorRegistry()
    requests = Requests(registry)
    ended(requests, "demo")
    ended(requests, "nobody", "not_found")
    before = generate_latest(registry).count(b"\n")
    for i in range(100_000):
        ended(requests, f"random-{i}", "not_found")
    assert generate_latest(registry).count(b"\n") == before
    assert b"random" not in generate_latest(registry)
    assert requests.open == set()


def test_of_names_that_are_served_a_thousand_have_series_and_the_rest_one_together() -> None:
    registry = CollectorRegistry()
    requests = Requests(registry)
    for i in range(MAX_MODELS + 50):
        ended(requests, f"served-{i}")
    models = {
        sample.labels["gen_ai_request_model"] for metric in requests.duration.collect() for sample in metric.samples
    }
    assert len(models) == MAX_MODELS + 1
    assert UNKNOWN in models


def test_a_name_that_is_not_answered_for_yet_is_not_shown_while_it_waits() -> None:
    requests = Requests(CollectorRegistry())
    waiting = Call("id", operation="chat", model="anything")
    requests.begin(waiting)
    assert list(requests.open_requests()) == [(UNKNOWN, False)]
    waiting.streaming_since = 1.0
    assert list(requests.open_requests()) == [("anything", True)]


def test_what_no_error_code_of_ours_is_does_not_become_a_label() -> None:
    call = calls.begin((), "chat")
    calls.closed({"state": "error", "msg": "x", "code": "a\nforeign code"})
    assert call.error == "internal"
