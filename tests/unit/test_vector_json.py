"""Bodies with many vectors: the JSON that they are anyhow, in pieces between which others have their turn."""

import asyncio
import json

import pytest

from modelengine import errors, wire
from modelengine_api import doors, vector_json


def encoded(count, size):
    return [wire.encode_vector([i + n / 3 for n in range(size)]) for i in range(count)]


def body(count):
    return {
        "id": 'a "text"\0 with all',
        "data": [{"at": i, "is": vector_json.PLACE} for i in range(count)],
        "end": 1,
    }


@pytest.mark.parametrize(("count", "size", "pieces"), [(1, 3, 1), (100, 1024, 13), (3, 10_000, 3), (500, 4, 1)])
def test_the_pieces_are_the_body_with_the_vectors_in_their_places(count, size, pieces):
    given = encoded(count, size)
    made = list(vector_json.pieces(body(count), given))
    assert len(made) == pieces
    read = json.loads(b"".join(made))
    assert read == {**body(0), "data": [{"at": i, "is": wire.decode_vector(one)} for i, one in enumerate(given)]}


def test_a_body_without_places_is_one_piece():
    assert list(vector_json.pieces({"data": encoded(2, 2)}, encoded(2, 2))) == [wire.encode({"data": encoded(2, 2)})]


def test_what_is_no_vector_is_told_before_anything_is_sent():
    with pytest.raises(errors.StreamBroken, match="not base64 of float32s"):
        list(vector_json.pieces(body(1), ["?"]))


async def test_others_have_their_turn_after_each_piece():
    turns = 0

    async def others():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    response = await doors.in_pieces(vector_json.pieces(body(100), encoded(100, 1024)), {"x-more": "1"})
    beside.cancel()
    assert turns >= 12
    sent = []

    async def send(message):
        sent.append(message)

    await response({"type": "http"}, None, send)
    whole = b"".join(message["body"] for message in sent[1:])
    headers = dict(sent[0]["headers"])
    assert (headers[b"content-length"], headers[b"x-more"]) == (str(len(whole)).encode(), b"1")
    assert [message.get("more_body", False) for message in sent[1:]] == [True] * 13 + [False]
    assert len(json.loads(whole)["data"]) == 100
