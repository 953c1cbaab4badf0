"""The `ollama` package against a live front door and engine: unchanged, and with its own types as the judge."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import ollama
import pytest
from pydantic import BaseModel

from callers import ask, until
from ollama_types import lacking, surplus

QUESTION = [{"role": "user", "content": "What is 12 + 30?"}]
GREEDY = {"temperature": 0, "num_predict": 40}
# Long enough to be in the middle of when somebody leaves, whatever the model says.
LONG = {"temperature": 5, "seed": 3, "num_predict": 900}


@pytest.fixture
def client(front_door_address: str) -> Iterator[ollama.Client]:
    with ollama.Client(f"http://{front_door_address}") as client:
        yield client


def running(address: str) -> int:
    count: int = ask(address, "/engine/info", {"model": "demo"}).msg["load"]["running"]
    return count


def test_list_names_the_model(client: ollama.Client) -> None:
    [model] = client.list().models
    assert model.model == "demo"
    assert model.modified_at is not None
    assert model.modified_at.year >= 2026
    assert model.details is not None
    assert (model.details.family, model.details.format) == ("qwen3", "safetensors")


def test_show_tells_about_it(client: ollama.Client) -> None:
    shown = client.show("demo")
    assert shown.modelinfo is not None
    assert shown.modelinfo["general.architecture"] == "qwen3"
    assert shown.modelinfo["qwen3.context_length"] == 1024
    assert shown.details is not None
    assert shown.details.parameter_size == "3.4M"
    assert shown.capabilities == ["completion", "tools"]


def test_ps_names_what_runs(client: ollama.Client) -> None:
    [model] = client.ps().models
    assert (model.name, model.context_length) == ("demo", 1024)
    assert model.expires_at is not None


def test_chat_and_its_stream_say_the_same(client: ollama.Client) -> None:
    whole = client.chat("demo", QUESTION, options=GREEDY)
    parts = list(client.chat("demo", QUESTION, options=GREEDY, stream=True))
    assert whole.message.content
    assert "".join(part.message.content or "" for part in parts) == whole.message.content
    assert len(parts) > 2
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    for last in (whole, parts[-1]):
        assert last.done_reason == "stop"
        assert last.prompt_eval_count
        assert last.eval_count
        assert last.total_duration
        assert last.eval_duration
        assert last.eval_duration <= last.total_duration
    assert (whole.eval_count, whole.prompt_eval_count) == (parts[-1].eval_count, parts[-1].prompt_eval_count)


def test_generate_and_its_stream_say_the_same_as_chat(client: ollama.Client) -> None:
    prompt = QUESTION[0]["content"]
    whole = client.generate("demo", prompt, options=GREEDY)
    parts = list(client.generate("demo", prompt, options=GREEDY, stream=True))
    assert "".join(part.response or "" for part in parts) == whole.response
    assert whole.response == client.chat("demo", QUESTION, options=GREEDY).message.content


def test_options_have_their_effect(client: ollama.Client) -> None:
    short = client.chat("demo", QUESTION, options={**GREEDY, "num_predict": 2})
    assert (short.eval_count, short.done_reason) == (2, "length")
    wild = ollama.Options(temperature=2.0, seed=7, num_predict=20, top_k=50, top_p=0.9)
    first, second = (client.chat("demo", QUESTION, options=wild).message.content for _ in range(2))
    assert first == second
    text = client.chat("demo", QUESTION, options=GREEDY).message.content
    assert text is not None
    stopped = client.chat("demo", QUESTION, options={**GREEDY, "stop": [text[2:5]]})
    assert (stopped.message.content, stopped.done_reason) == (text[:2], "stop")


@pytest.mark.parametrize("stream", [True, False])
def test_likelihoods_come_for_every_token(client: ollama.Client, stream: bool) -> None:
    asked = client.chat("demo", QUESTION, options=GREEDY, logprobs=True, top_logprobs=2, stream=stream)
    parts = list(asked) if stream else [asked]
    told = [item for part in parts for item in part.logprobs or ()]
    assert len(told) == parts[-1].eval_count
    for item in told:
        assert item.logprob <= 0
        assert item.top_logprobs is not None
        assert len(item.top_logprobs) == 2
        # The answer is greedy.
        assert item.token == item.top_logprobs[0].token


def test_durations_are_parts_of_the_whole(client: ollama.Client) -> None:
    whole = client.chat("demo", QUESTION, options=GREEDY)
    durations = (whole.load_duration, whole.prompt_eval_duration, whole.eval_duration)
    assert whole.total_duration is not None
    assert sum(duration or 0 for duration in durations) <= whole.total_duration
    assert all(duration is not None for duration in durations)
    assert whole.prompt_eval_duration is not None
    assert whole.prompt_eval_duration > 1000, "measured in nanoseconds"


def test_the_tag_latest_is_understood(client: ollama.Client) -> None:
    assert client.chat("demo:latest", QUESTION, options=GREEDY).model == "demo:latest"
    assert client.show("demo:latest").capabilities


def test_an_empty_call_loads_and_unloads(client: ollama.Client) -> None:
    assert client.generate("demo").done_reason == "load"
    assert client.chat("demo", [], keep_alive=0).done_reason == "unload"


@pytest.mark.parametrize(
    ("call", "status", "words"),
    [
        (lambda client: client.show("nobody"), 404, "model 'nobody' not found"),
        (lambda client: client.chat("nobody", QUESTION), 404, "model 'nobody' not found"),
        (lambda client: list(client.chat("nobody", QUESTION, stream=True)), 404, "model 'nobody' not found"),
        (lambda client: client.generate("nobody", "hi"), 404, "model 'nobody' not found"),
        (
            lambda client: client.chat("demo", QUESTION, options={"temperature": 99}),
            400,
            "options.temperature: must be",
        ),
        (lambda client: client.chat("demo", [{**QUESTION[0], "images": [b"x"]}]), 400, "messages[0].images"),
        (lambda client: client.generate("demo", "hi", raw=True), 400, "raw: must be false"),
        (lambda client: client.chat("demo", QUESTION, keep_alive="soon"), 400, "keep_alive: must be"),
        (lambda client: client.chat("demo", [{"role": "user", "content": "x " * 3000}]), 400, "context"),
        (lambda client: client.pull("llama3"), 403, "kubectl apply"),
        (lambda client: list(client.pull("llama3", stream=True)), 403, "kubectl apply"),
        (lambda client: client.push("demo"), 403, "kubectl apply"),
        (lambda client: client.create("mine", from_="demo"), 403, "kubectl apply"),
        (lambda client: client.create_blob(__file__), 403, "kubectl apply"),
        (lambda client: client.copy("demo", "other"), 403, "kubectl apply"),
        (lambda client: client.delete("demo"), 403, "kubectl delete modelengine"),
    ],
)
def test_a_failure_is_the_package_s_own_error_with_its_status(
    client: ollama.Client, call: Callable[[ollama.Client], Any], status: int, words: str
) -> None:
    with pytest.raises(ollama.ResponseError) as failure:
        call(client)
    assert failure.value.status_code == status
    assert words in failure.value.error


def test_who_stops_reading_frees_the_slot(client: ollama.Client, front_door_address: str) -> None:
    parts = client.chat("demo", QUESTION, options=LONG, stream=True)
    next(iter(parts))
    assert until(lambda: running(front_door_address) == 1, 2)
    parts.close()
    assert until(lambda: running(front_door_address) == 0, 5)


async def test_the_asynchronous_client_does_the_same(front_door_address: str) -> None:
    async with ollama.AsyncClient(f"http://{front_door_address}") as client:
        whole = await client.chat("demo", QUESTION, options=GREEDY)
        streamed = [part async for part in await client.chat("demo", QUESTION, options=GREEDY, stream=True)]
        assert "".join(part.message.content or "" for part in streamed) == whole.message.content
        assert [model.model for model in (await client.list()).models] == ["demo"]
        with pytest.raises(ollama.ResponseError, match="not found") as failure:
            await client.show("nobody")
        assert failure.value.status_code == 404


CHATTING = {"thinking", "message.thinking", "message.images", "message.tool_name", "message.tool_calls", "logprobs"}
ENDING = {
    "done_reason",
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
}
# What is told where a conversation or a picture is made, which is not here.
FOREIGN = {"context", "image", "completed", "total"}


@pytest.mark.parametrize(
    ("path", "body", "cls", "absent"),
    [
        ("/api/chat", {"messages": QUESTION, "options": GREEDY}, ollama.ChatResponse, CHATTING),
        ("/api/chat", {"messages": QUESTION, "logprobs": True, "top_logprobs": 1}, ollama.ChatResponse, CHATTING),
        ("/api/generate", {"prompt": "hi", "options": GREEDY}, ollama.GenerateResponse, CHATTING | FOREIGN),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_answers_have_the_fields_of_the_package_s_types_and_no_others(
    front_door_address: str, path: str, body: dict[str, Any], cls: type[BaseModel], absent: set[str], stream: bool
) -> None:
    *parts, last = ask(front_door_address, path, {"model": "demo", "stream": stream, **body}).lines
    for part in parts:
        assert surplus(cls, part) == set()
        assert lacking(cls, part) <= absent | ENDING
    assert surplus(cls, last) == set()
    assert lacking(cls, last) <= absent


@pytest.mark.parametrize(
    ("method", "path", "cls", "known"),
    [
        ("GET", "/api/tags", ollama.ListResponse, set()),
        ("GET", "/api/ps", ollama.ProcessResponse, set()),
        ("POST", "/api/show", ollama.ShowResponse, set()),
    ],
)
def test_lists_have_the_fields_of_the_package_s_types_and_no_others(
    front_door_address: str, method: str, path: str, cls: type[BaseModel], known: set[str]
) -> None:
    answer = json.loads(ask(front_door_address, path, {"model": "demo"}, method=method).body)
    assert surplus(cls, answer) == known
    assert lacking(cls, answer) == set()
