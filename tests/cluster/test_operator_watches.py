"""Watches that die, fall silent or skip: what plain kopf does then, and that the operator does not.

See docs/decisions/20261124.kopf-traps.md. The operator's patience is shortened, so that no test takes minutes.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from cluster import operators
from cluster.admin import Object
from cluster.fault_proxy import GONE, FaultProxy
from cluster.harness.processes import until
from cluster.operators import Home, Operator
from modelengine import kinds
from modelengine_kube import resources

SILENCE_S, LISTS_S = 3, 2
IMPATIENT = f"""
from modelengine_kube import api
from modelengine_operator import handlers, relisting
api.WATCH_SILENCE_S = handlers.SILENCE_S = {SILENCE_S}
relisting.EVERY_S, relisting.PATIENCE_S = {LISTS_S}, 0.5
"""
# It listens to its watch alone.
NO_LISTS = "from modelengine_operator import relisting; relisting.EVERY_S = 1000"
BROKEN: Object = {
    "type": "ERROR",
    "object": {"kind": "Status", "status": "Failure", "code": 500, "message": "by the fault proxy"},
}


class Plain(Operator):
    """`plain_kopf.py` in the operator's place."""

    main = "import runpy; runpy.run_module('cluster.plain_kopf', run_name='__main__')"

    def health(self) -> tuple[int, list[str]]:
        """The status, and the ModelEngines that it knows."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=5) as answer:
                told: dict[str, Any] = json.load(answer)
                return answer.status, told.get("names", [])
        except OSError:
            return 0, []


@pytest.fixture
def plain(home: Home, proxy: FaultProxy) -> Iterator[Plain]:
    plain = Plain(home, name="plain", server=proxy.url)
    plain.start(PLAIN_BACK_OFFS="0.1,0.1,0.1")
    until(lambda: plain.health()[0] == 200, 30, "plain kopf is up")
    until(lambda: proxy.watches(resources.MODELENGINES), 30, "it watches")
    yield plain
    plain.kill()


@operators.long
def test_plain_kopf_keeps_what_was_deleted_while_its_watch_was_down(
    home: Home, proxy: FaultProxy, plain: Plain
) -> None:
    home.engine("ghost")
    until(lambda: plain.health() == (200, ["ghost"]), 10, "it knows it")
    with proxy.silent(resources.MODELENGINES):
        home.delete("ghost")
        time.sleep(0.5)
    proxy.send(resources.MODELENGINES, GONE)
    home.engine("later")
    until(lambda: "later" in plain.health()[1], 20, "it watches again")
    assert plain.health() == (200, ["ghost", "later"])


@operators.long
@pytest.mark.parametrize("how", ["an error in the watch", "no list for longer than its delays"])
def test_plain_kopf_ends_itself_when_its_watch_has_died(proxy: FaultProxy, plain: Plain, how: str) -> None:
    if how == "an error in the watch":
        proxy.send(resources.MODELENGINES, BROKEN)
        assert plain.wait_end(20) == 1
    else:
        with proxy.answering(503, resources.MODELENGINES):
            proxy.cut(resources.MODELENGINES)
            assert plain.wait_end(20) == 1


def test_what_was_deleted_while_the_watch_was_down_is_forgotten_and_nothing_is_made_for_it(
    home: Home, proxy: FaultProxy
) -> None:
    with operators.running(home, server=proxy.url, code=NO_LISTS):
        home.engine("ghost")
        home.until_reason("ghost", "Serving")
        # What is told of its life is told, so that whatever comes after this is of its death.
        home.until_quiet()
        with proxy.silent(resources.MODELENGINES):
            mark = home.plane.audit.mark()
            home.delete("ghost")
            until(lambda: not home.admin.list(resources.DEPLOYMENTS, home.namespace), 60, "it is collected")
            until(lambda: home.listed("ghost") == [], 5, "its pods are gone from its name")
            time.sleep(2)
        proxy.send(resources.MODELENGINES, GONE)
        time.sleep(1)
        made = [call for call in home.calls(mark) if call.resource not in ("configmaps", "modelengines/status")]
        assert made == []
        assert home.pods_made(mark) == []
        home.engine("later")
        home.until_reason("later", "Serving")
        assert list(home.registry()) == ["chat.later"]


def test_a_watch_that_tells_an_error_ends_the_operator_in_a_sentence_and_a_new_start_heals(
    home: Home, proxy: FaultProxy
) -> None:
    operator = Operator(home, server=proxy.url)
    operator.start()
    try:
        operator.wait_ready()
        home.engine("demo")
        home.until_reason("demo", "Serving")
        proxy.send(resources.MODELENGINES, BROKEN)
        assert operator.wait_end(20) == 1
        last = operator.output.splitlines()[-1]
        assert last.startswith("error: kopf has ended: Error in the watch-stream")
        # As a kubelet does at once.
        operator.start()
        operator.wait_ready()
        home.change("demo", replicas=2)
        home.until_reason("demo", "Serving")
    finally:
        operator.kill()


def test_lists_that_fail_for_long_end_no_watch(home: Home, proxy: FaultProxy) -> None:
    with operators.running(home, server=proxy.url) as operator:
        with proxy.answering(503, resources.MODELENGINES, resources.PODS):
            for resource in (resources.MODELENGINES, resources.PODS):
                proxy.cut(resource)
            # Delays that run out would have ended it by now.
            time.sleep(10)
            assert operator.is_healthy
        home.engine("demo")
        home.until_reason("demo", "Serving", 30)
        assert operator.is_running


def test_a_watch_of_pods_that_falls_silent_is_given_up_and_a_dead_pod_leaves_the_registry(
    home: Home, proxy: FaultProxy
) -> None:
    with operators.running(home, server=proxy.url, code=IMPATIENT):
        home.engine("demo")
        home.until_reason("demo", "Serving")
        [old] = home.listed("demo")
        with proxy.silent(resources.PODS):
            home.admin.delete(resources.PODS, home.namespace, old)
            until(lambda: old not in home.listed("demo"), SILENCE_S + 6, "it is not listed any more")
        home.until_reason("demo", "Serving", SILENCE_S + 10)


def test_a_watch_of_modelengines_that_stays_silent_is_made_up_for_by_lists_and_told_to_the_probe(
    home: Home, proxy: FaultProxy
) -> None:
    with operators.running(home, server=proxy.url, code=IMPATIENT) as operator:
        with proxy.silent(resources.MODELENGINES):
            home.engine("demo")
            home.until_reason("demo", "Serving")
            count = 0
            while operator.is_healthy:
                count += 1
                assert count < 40, "it stays healthy over a dead watch"
                home.admin.merge(
                    resources.MODELENGINES, home.namespace, "demo", {"metadata": {"labels": {"count": str(count)}}}
                )
                time.sleep(0.5)
        until(lambda: operator.is_healthy, SILENCE_S + 4 * LISTS_S, "it is healthy again")
        home.change("demo", replicas=2)
        home.until_reason("demo", "Serving")


def test_a_registry_that_is_spoilt_while_its_watch_is_silent_is_seen_at_the_next_write(
    home: Home, proxy: FaultProxy
) -> None:
    with operators.running(home, server=proxy.url):
        home.engine("demo")
        home.until_reason("demo", "Serving")
        home.until_quiet(1.0)
        with proxy.silent(resources.CONFIG_MAPS):
            patch = {"data": {"chat.foreign": "{}"}}
            home.admin.merge(resources.CONFIG_MAPS, home.namespace, kinds.REGISTRY_NAME, patch)
            home.change("demo", replicas=2)
            until(lambda: len(home.listed("demo")) == 2, 15, "both are listed")
            assert list(home.registry()) == ["chat.demo"]
            home.admin.delete(resources.CONFIG_MAPS, home.namespace, kinds.REGISTRY_NAME)
            home.change("demo", replicas=1)
            until(lambda: len(home.listed("demo")) == 1, 15, "one is listed")
