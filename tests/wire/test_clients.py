"""The clients as a program uses them: blocking and asyncio, the same calls with the same results."""

import asyncio
import socket
import threading
import time

import pytest

from callers import until
from fakes import FakeEngine
from modelengine import (
    AsyncChatClient,
    AsyncNameServerClient,
    ChatChunk,
    ChatClient,
    NameServerClient,
    ServerInfo,
    errors,
    wire,
)
from modelengine.aio import AsyncStream
from modelengine.chats import ChatOptions, ResponseFormat
from modelengine.protocol import to_json

HELLO = [{"role": "user", "content": "hi"}]


class Blocking:
    """An asyncio client driven call by call, so that one test serves both."""

    def __init__(self, client):
        self._client = client
        self._runner = asyncio.Runner()

    def __getattr__(self, name):
        def call(*args, **kwargs):
            result = self._runner.run(getattr(self._client, name)(*args, **kwargs))
            return BlockingStream(result, self._runner) if isinstance(result, AsyncStream) else result

        return call

    def __enter__(self):
        self._runner.run(self._client.__aenter__())
        return self

    def __exit__(self, *exception):
        self._runner.run(self._client.__aexit__(*exception))
        self._runner.close()


class BlockingStream:
    def __init__(self, stream, runner):
        self._stream, self._runner = stream, runner

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return self._runner.run(self._next())
        except StopAsyncIteration:
            raise StopIteration from None

    async def _next(self):
        return await anext(self._stream)

    def close(self):
        self._runner.run(self._stream.close())


CHAT = {"sync": ChatClient, "asyncio": lambda host, **how: Blocking(AsyncChatClient(host, **how))}
NAMES = {"sync": NameServerClient, "asyncio": lambda host: Blocking(AsyncNameServerClient(host))}


@pytest.fixture(params=CHAT)
def kind(request):
    return request.param


@pytest.fixture
def chat_client(kind, front_door):
    with CHAT[kind](front_door) as client:
        yield client


def test_a_name_is_waited_for_asked_and_chatted_with(chat_client, front_door, start_engine):
    fake = FakeEngine()
    service = start_engine(fake, front_door)
    assert chat_client.wait_service_available("demo", timeout=5) == [service]
    assert chat_client.get_services("demo") == [service]
    assert chat_client.get_service_names() == ["demo"]
    assert chat_client.support_methods("demo") == ["inference", "info", "support_methods"]
    assert chat_client.info("demo")["name"] == "demo"
    answer = chat_client.chat("demo", HELLO, options={"max_new_tokens": 9})
    assert (answer.content, answer.finish_reason, answer.response_length) == ("Hello world!", "stop", 4)
    *parts, last = chat_client.chat("demo", HELLO, stream=True)
    assert [part.content for part in parts] == ["Hello", " ", "world", "!"]
    assert (last.done, last.content) == (True, None)
    assert [request.stream for request in fake.requests] == [False, True]
    assert fake.requests[0].options.max_new_tokens == 9


TOOL = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object"}}}
CALL = {"index": 0, "id": "1", "type": "function", "function": {"name": "get_time", "arguments": "{}"}}
LIKELY = {"token": "Hello", "token_id": 0, "logprob": -0.5, "bytes": [72], "top": []}


def test_thoughts_calls_and_likelihoods_come_and_how_to_call_is_told(chat_client, front_door, start_engine):
    words = [{"reasoning_content": "hm"}, {"content": "Hello", "logprobs": (LIKELY,)}, {"tool_calls": (CALL,)}]
    fake = FakeEngine(words=words)
    start_engine(fake, front_door)
    how = {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False}
    answer = chat_client.chat("demo", HELLO, **how, options={"top_logprobs": 0, "think": False})
    assert (answer.reasoning_content, answer.content, answer.finish_reason) == ("hm", "Hello", "tool_calls")
    assert (answer.tool_calls, answer.logprobs) == ((CALL,), (LIKELY,))
    thought, word, call, last = chat_client.chat("demo", HELLO, **how, stream=True)
    assert (thought.content, thought.reasoning_content) == ("", "hm")
    assert (word.content, word.logprobs) == ("Hello", (LIKELY,))
    assert (call.tool_calls, last.finish_reason) == ((CALL,), "tool_calls")
    for request in fake.requests:
        assert (request.tool_choice, request.parallel_tool_calls) == ("required", False)
    assert fake.requests[0].options == ChatOptions(top_logprobs=0, think=False)
    # What was said goes back into the conversation as it came.
    said = {"role": "assistant", "reasoning_content": "hm", "tool_calls": answer.tool_calls}
    chat_client.chat("demo", [*HELLO, said, {"role": "tool", "content": "12:30", "tool_call_id": "1"}], tools=[TOOL])
    assert fake.requests[-1].messages[-2].tool_calls == (CALL,)


def test_a_format_is_told_as_a_record_or_as_plain_data(chat_client, front_door, start_engine):
    fake = FakeEngine()
    start_engine(fake, front_door)
    shape = ResponseFormat("choice", choice=("a", "b"))
    for given in (shape, to_json(shape)):
        chat_client.chat("demo", HELLO, options={"response_format": given})
    assert [request.options.response_format for request in fake.requests] == [shape, shape]
    with pytest.raises(errors.InvalidRequest, match=r"options\.response_format\.schema: unknown; known are choice"):
        chat_client.chat("demo", HELLO, options={"response_format": {"type": "json_schema", "schema": {}}})


def test_closing_a_stream_early_stops_the_engine_within_a_second(chat_client, front_door, start_engine):
    fake = FakeEngine(words=["word"] * 1000, pause_s=0.01)
    start_engine(fake, front_door)
    stream = chat_client.chat("demo", HELLO, stream=True)
    next(stream)
    stream.close()
    until(lambda: not fake.open_streams)
    assert (fake.open_streams, fake.aborted) == (0, 1)


def test_an_error_in_the_middle_and_an_end_that_is_none_are_raised(chat_client, front_door, start_engine):
    start_engine(FakeEngine("raises", break_after=2), front_door)
    start_engine(FakeEngine("ends", break_after=2, break_by="end"), front_door)
    with pytest.raises(errors.RequestFailed, match="the fake broke"):
        list(chat_client.chat("raises", HELLO, stream=True))
    with pytest.raises(errors.StreamBroken, match="before its final part"):
        list(chat_client.chat("ends", HELLO, stream=True))


def test_an_unknown_name_is_none_and_to_chat_with_it_is_not_found(chat_client, front_door, start_engine):
    start_engine(FakeEngine(), front_door)
    assert chat_client.get_services("dem") is None
    with pytest.raises(errors.NotFound, match="did you mean 'demo'"):
        chat_client.chat("dem", HELLO)


def test_nobody_at_the_name_server_s_address_is_said_at_once(kind):
    with CHAT[kind]("127.0.0.1:9") as client, pytest.raises(errors.ConnectionFailed, match=r"127\.0\.0\.1:9"):
        client.get_service_names()


def test_an_engine_that_hangs_is_given_up_when_the_caller_s_time_is_over(chat_client, front_door, start_engine):
    start_engine(FakeEngine(pause_s=5), front_door)
    started = time.monotonic()
    with pytest.raises(errors.WaitTimeout):
        chat_client.chat("demo", HELLO, timeout=0.3)
    assert time.monotonic() - started < 3


def test_the_name_server_s_calls(kind, front_door, start_engine):
    service = start_engine(FakeEngine())
    with NAMES[kind](front_door) as names:
        assert names.register(service)["register"] == "success"
        assert names.get_services("chat", "demo") == [service]
        watch = names.watch(protocol="chat")
        assert next(watch) == [service]
        assert names.deregister(service)
        assert next(watch) == []
        watch.close()
        assert not names.deregister(service)
        assert "register" in names.support_methods()
        assert names.info()["kind"] == "in memory"


@pytest.mark.parametrize("has_name_server", [True, False])
def test_a_relayed_client_asks_one_address_for_everything(kind, front_door, start_engine, has_name_server):
    # An engine alone knows nothing of names: whoever looks one up there fails.
    engine = start_engine(FakeEngine(), front_door)
    address = front_door if has_name_server else f"127.0.0.1:{engine.port}"
    with CHAT[kind](address, relayed=True) as client:
        assert client.support_methods("demo") == ["inference", "info", "support_methods"]
        assert client.info("demo")["name"] == "demo"
        assert client.chat("demo", HELLO).content == "Hello world!"
        *parts, last = client.chat("demo", HELLO, stream=True)
        assert ([part.content for part in parts], last.done) == (["Hello", " ", "world", "!"], True)


@pytest.mark.parametrize("kind", CHAT)
def test_an_answer_whose_final_part_has_come_is_whole_however_the_connection_ends(kind):
    final = wire.encode_line(wire.ok(to_json(ChatChunk("demo", 1, 1, "stop", None, True))))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        here = ServerInfo("demo", "127.0.0.1", listener.getsockname()[1])

        def answer(head, body):
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\n" + head + b"\r\n\r\n" + body)

        def name_server_and_then_an_engine_that_never_ends_its_chunks():
            listing = wire.encode(wire.ok({"services": [to_json(here)]}))
            answer(b"content-length: %d" % len(listing), listing)
            answer(b"transfer-encoding: chunked", b"%x\r\n%s\r\n" % (len(final), final))

        threading.Thread(target=name_server_and_then_an_engine_that_never_ends_its_chunks, daemon=True).start()
        with CHAT[kind](f"127.0.0.1:{here.port}") as client:
            assert [part.done for part in client.chat("demo", HELLO, stream=True)] == [True]
