"""Front doors and replicas in a simulation that makes the real decisions: what they come to over a while."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable

import pytest

from modelengine_gateway import balance
from routing_simulation import Caches, RoundRobin, World, poisson, replay, replicas


@pytest.mark.parametrize("count", [2, 4, 8])
def test_with_two_front_doors_the_loads_of_replicas_differ_by_less_than_a_fifth(count: int) -> None:
    world = World(replicas(count), 2, random.Random(1), settled_s=5)
    poisson(world, per_s=12.5 * count, seconds=2.0, until=120, key=lambda: None)
    world.run(120)
    assert world.difference < 0.1


@pytest.mark.parametrize("seed", range(3))
def test_the_same_where_two_of_five_requests_are_of_one_conversation(seed: int) -> None:
    chance = random.Random(seed)
    world = World(replicas(4), 2, random.Random(seed), settled_s=5)
    skewed: Callable[[], bytes] = lambda: b"hot" if chance.random() < 0.4 else b"%d" % chance.randrange(200)  # noqa: E731
    poisson(world, per_s=50, seconds=2.0, until=120, key=skewed)
    world.run(120)
    assert world.difference < 0.2


@pytest.mark.parametrize("front_doors", [3, 8])
def test_late_reports_make_no_herd_of_many_front_doors(front_doors: int) -> None:
    """All see the same replica as the least busy; were it asked by all, its load would swing by all they have."""
    world = World(replicas(4), front_doors, random.Random(2), settled_s=5)
    poisson(world, per_s=200, seconds=0.5, until=60, key=lambda: None)
    world.run(60)
    assert statistics.mean(world.spread) < 0.33
    assert world.difference < 0.1


def test_what_clients_ask_of_a_replica_themselves_counts_because_it_reports() -> None:
    told, blind = (World(replicas(4), 2, random.Random(3), settled_s=5, reports=reports) for reports in (True, False))
    for world in (told, blind):
        world.open[world.services[0]] += 20
        poisson(world, per_s=50, seconds=2.0, until=60, key=lambda: None)
        world.run(60)
    assert told.difference < 0.1
    assert blind.difference > 0.5


@pytest.mark.parametrize("seed", range(3))
def test_thirty_conversations_find_twice_as_much_in_the_cache_as_in_turn(seed: int) -> None:
    rates = []
    for pick in (balance.pick, RoundRobin()):
        world, caches = World(replicas(4), 2, random.Random(seed), pick=pick), Caches(conversations=12)
        replay(world, caches, conversations=30, turns=8)
        world.run(300)
        rates.append(caches.hit_rate)
    assert rates[0] > 2 * rates[1]
