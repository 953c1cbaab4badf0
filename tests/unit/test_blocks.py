"""Who holds which block, what is known of blocks that nobody holds, and what goes first when space is needed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelengine_kernels.layout import BLOCK_TOKENS
from modelengine_runtime.blocks import BlockPool, blocks_for, blocks_that_fit


def text(*letters):
    """A block for each letter."""
    return [ord(letter) for letter in letters for _ in range(BLOCK_TOKENS)]


def take(pool, *letters, salt=""):
    """What a sequence with this text does: finds what is known, computes the rest and makes it known."""
    blocks = pool.match(text(*letters), salt)
    node = pool.node(blocks[-1]) if blocks else salt
    for letter in letters[len(blocks) :]:
        blocks += pool.allocate(1)
        node = pool.publish(node, text(letter), blocks[-1])
    return blocks


def counts(pool):
    return pool.used, pool.cached, pool.free


def test_a_block_given_back_is_the_next_one_taken_and_new_memory_comes_last():
    pool = BlockPool(10)
    assert pool.allocate(3) == [0, 1, 2]
    pool.release([1])
    assert pool.allocate(2) == [1, 3]


def test_a_block_is_held_until_its_last_holder_gives_it_back():
    pool = BlockPool(4)
    first, second = take(pool, "a", "b"), take(pool, "a", "b")
    assert first == second
    pool.release(first)
    assert counts(pool) == (2, 0, 2)
    pool.release(second)
    assert counts(pool) == (0, 2, 2)


def test_only_the_beginning_that_is_the_same_is_found():
    pool = BlockPool(9)
    blocks = take(pool, "a", "b", "c")
    assert pool.find(text("a", "b", "x")) == blocks[:2]
    assert pool.find(text("b", "c")) == []
    assert pool.find([*text("a"), *text("b")[:-1]]) == blocks[:1]


def test_a_question_holds_nothing_and_is_no_hit():
    pool = BlockPool(9)
    pool.release(take(pool, "a", "b"))
    pool.find(text("a", "b"))
    assert (counts(pool), pool.hit_tokens) == ((0, 2, 7), 0)
    pool.match(text("a", "b"))
    assert (counts(pool), pool.hit_tokens) == ((2, 0, 7), 2 * BLOCK_TOKENS)


def test_another_salt_finds_nothing():
    pool = BlockPool(9)
    take(pool, "a", salt="mine")
    assert pool.find(text("a"), "mine") != []
    assert pool.find(text("a"), "yours") == pool.find(text("a")) == []


def test_the_least_recently_used_goes_first_and_of_a_text_its_end():
    pool = BlockPool(4)
    old, new = take(pool, "a", "b"), take(pool, "c", "d")
    pool.release(old)
    pool.release(new)
    pool.release(pool.match(text("a", "b")))
    assert pool.allocate(1) == new[1:]
    assert pool.find(text("c", "d")) == new[:1]
    assert pool.allocate(2) == [new[0], old[1]]
    assert pool.find(text("a", "b")) == old[:1]


def test_cached_blocks_stay_while_others_are_free():
    pool = BlockPool(4)
    cached = take(pool, "a", "b")
    pool.release(cached)
    pool.allocate(2)
    assert pool.find(text("a", "b")) == cached


def test_room_is_what_is_free_or_cached_but_not_what_is_about_to_be_shared():
    pool = BlockPool(4)
    pool.release(take(pool, "a", "b"))
    found = pool.find(text("a"))
    assert pool.can_allocate(4)
    assert pool.can_allocate(3, beside=found)
    assert not pool.can_allocate(4, beside=found)


def test_what_is_computed_twice_stays_known_by_the_first_and_both_go_on_alike():
    pool = BlockPool(6)
    first, second = pool.allocate(1), pool.allocate(1)
    node = pool.publish("", text("a"), first[0])
    assert pool.publish("", text("a"), second[0]) == node
    assert pool.find(text("a")) == first
    pool.release(second)
    assert counts(pool) == (1, 0, 5)


def test_what_is_forgotten_is_not_found_and_is_free_when_it_is_given_back():
    pool = BlockPool(4)
    blocks = take(pool, "a", "b")
    pool.forget(blocks[:1])
    assert pool.find(text("a", "b")) == []
    pool.release(blocks)
    assert counts(pool) == (0, 1, 3)


def test_giving_back_twice_is_a_mistake():
    pool = BlockPool(4)
    blocks = pool.allocate(1)
    pool.release(blocks)
    with pytest.raises(AssertionError, match="given back twice"):
        pool.release(blocks)


texts = st.lists(st.sampled_from("ab"), min_size=1, max_size=4)


@given(st.lists(st.tuples(texts, st.sampled_from(["", "s"]), st.booleans()), max_size=40), st.integers(4, 8))
def test_what_is_found_is_the_same_text_and_nothing_gets_lost(steps, count):
    pool, held, content = BlockPool(count), [], {}
    for letters, salt, gives_back in steps:
        if gives_back and held:
            pool.release(held.pop(0))
            continue
        if not pool.can_allocate(len(letters)):
            continue
        found = pool.find(text(*letters), salt)
        assert [content[block] for block in found] == [(salt, letters[: i + 1]) for i in range(len(found))]
        blocks = take(pool, *letters, salt=salt)
        content |= {block: (salt, letters[: i + 1]) for i, block in enumerate(blocks)}
        held.append(blocks)
        assert pool.used == len({block for blocks in held for block in blocks})
        assert sum(counts(pool)) == count
    for blocks in held:
        pool.release(blocks)
    assert pool.used == 0


@pytest.mark.parametrize(("tokens", "blocks"), [(0, 0), (1, 1), (16, 1), (17, 2)])
def test_a_block_that_is_begun_is_a_whole_one(tokens, blocks):
    assert blocks_for(tokens) == blocks


def test_the_cache_takes_what_memory_there_is_but_no_more_than_all_contexts_together():
    assert blocks_that_fit(1_000_000, 100, context_length=4096, max_running=32) == 625
    assert blocks_that_fit(10**12, 100, context_length=100, max_running=3) == 7 * 3 + 1
