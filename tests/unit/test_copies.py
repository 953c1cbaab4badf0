"""Copies of a cluster's objects: what is told late, twice or in the wrong order leaves no wrong picture."""

from __future__ import annotations

from modelengine_kube.api import Listing, Object
from modelengine_kube.copies import Copy, Key


def at(version: int, name: str = "a") -> Object:
    return {"metadata": {"namespace": "n", "name": name, "resourceVersion": str(version)}}


def listing(version: int, *objects: Object) -> Listing:
    return Listing(list(objects), str(version))


class Told:
    """A copy, and what it told."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, int | None]] = []
        self.copy = Copy(self._changed)

    def _changed(self, key: Key, obj: Object | None) -> None:
        self.changes.append((key[1], None if obj is None else int(obj["metadata"]["resourceVersion"])))


def test_only_what_is_newer_counts() -> None:
    told = Told()
    assert told.copy.learn(at(5))
    assert not told.copy.learn(at(5))
    assert not told.copy.learn(at(4))
    assert told.copy.learn(at(6))
    assert told.changes == [("a", 5), ("a", 6)]


def test_an_answer_to_a_write_that_comes_after_the_deletion_brings_nothing_back() -> None:
    told = Told()
    told.copy.learn(at(5))
    assert told.copy.forget(at(8))
    assert not told.copy.learn(at(7))
    assert told.changes == [("a", 5), ("a", None)]


def test_a_deletion_that_is_told_before_the_object_ever_was_known_counts_too() -> None:
    told = Told()
    assert not told.copy.forget(at(8))
    assert not told.copy.learn(at(7))
    assert told.changes == []


def test_one_made_anew_under_the_same_name_is_known_and_the_late_end_of_the_old_one_does_not_take_it() -> None:
    told = Told()
    told.copy.learn(at(5))
    told.copy.forget(at(8))
    assert told.copy.learn(at(9))
    assert not told.copy.forget(at(8))
    assert told.copy.objects["n", "a"] == at(9)


def test_a_list_made_before_a_deletion_brings_nothing_back() -> None:
    told = Told()
    told.copy.learn(at(5))
    told.copy.forget(at(8))
    assert told.copy.replace(listing(7, at(5))) == 0
    assert told.changes == [("a", 5), ("a", None)]


def test_a_list_made_before_an_object_came_does_not_take_it() -> None:
    told = Told()
    told.copy.learn(at(8))
    assert told.copy.replace(listing(7)) == 0
    assert told.changes == [("a", 8)]


def test_a_list_tells_what_no_event_told() -> None:
    told = Told()
    told.copy.learn(at(5))
    told.copy.learn(at(5, "b"))
    assert told.copy.replace(listing(9, at(7, "b"), at(8, "c"))) == 3
    assert sorted(told.changes[2:], key=str) == [("a", None), ("b", 7), ("c", 8)]


def test_what_was_gone_does_not_hide_objects_of_a_cluster_that_was_put_back() -> None:
    told = Told()
    told.copy.replace(listing(100, at(90)))
    told.copy.forget(at(110))
    assert told.copy.replace(listing(50, at(40))) == 1
    assert told.changes[-1] == ("a", 40)


def test_who_owns_which_field_is_not_kept() -> None:
    told = Told()
    obj = at(5)
    obj["metadata"]["managedFields"] = ["much"]
    told.copy.learn(obj)
    assert told.copy.objects["n", "a"] == at(5)
