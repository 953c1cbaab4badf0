"""Engines that make vectors or scores as servers in the test process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from callers import until
from fake_encoder import FakeEncoder
from modelengine_runtime.app import create_app
from modelengine_runtime.encoding import EncodingEngine, EncodingLimits
from modelengine_runtime.lifecycle import AnyEngine, Lifecycle
from servers import running

LIMITS = EncodingLimits(max_running=2, max_waiting=2, step_tokens=1000)


@contextmanager
def serving(load: Callable[[], AnyEngine], protocol: str, name: str = "fake", nameserver: str = "") -> Iterator[int]:
    """A whole engine, once it is ready, listed at the name server where one is given; gives its port."""
    lifecycle = Lifecycle(name, load, nameserver, advertise_host="127.0.0.1", protocol=protocol)
    with running(create_app(lifecycle), on_listening=lifecycle.begin, on_stop=lifecycle.leave) as port:
        assert until(lambda: lifecycle.is_ready, 10)
        yield port
    lifecycle.close()


@contextmanager
def serving_encoder(fake: FakeEncoder, name: str = "fake", nameserver: str = "") -> Iterator[int]:
    with serving(lambda: EncodingEngine(fake.loaded(), LIMITS), fake.protocol, name, nameserver) as port:
        yield port
