"""Blocking clients: `NameServerClient` and `ChatClient`. The calls themselves are in `flows.py`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar, cast, overload

import httpx2

from modelengine import errors, flows, transport
from modelengine.chat_request import chat_request
from modelengine.chats import ChatChunk, ChatOptions, ChatResponse, Message, ToolChoice
from modelengine.protocol import CHAT, EngineMethod, NameServerMethod, ServerInfo

Part = TypeVar("Part")
Result = TypeVar("Result")


class Closing:
    """A context that closes itself."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Stream(Closing, Generic[Part]):
    """An open answer: iterate it, or close it early, which aborts the request on the engine."""

    def __init__(self, response: httpx2.Response, parser: flows.PartsReader[Part]) -> None:
        self._response = response
        self._parts = self._read(parser)

    def _read(self, parser: flows.PartsReader[Part]) -> Iterator[Part]:
        try:
            for data in self._response.iter_raw():
                yield from parser.feed(data)
            parser.end()
        except (httpx2.HTTPError, httpx2.StreamError) as failure:
            if not parser.done:
                raise transport.inside_answer(failure, str(self._response.url)) from failure
        finally:
            self._response.close()

    def __iter__(self) -> Iterator[Part]:
        return self._parts

    def __next__(self) -> Part:
        return next(self._parts)

    def close(self) -> None:
        self._response.close()


class Client(Closing):
    """Drives flows with blocking sockets. `host` is `HOST[:PORT]`; default `MODELENGINE_HOST`, else localhost:9527.

    `api_key` is for a name server that asks for one; default `MODELENGINE_API_KEY`.
    """

    def __init__(self, host: str | None = None, *, api_key: str | None = None) -> None:
        self.base_url = flows.base_url(host)
        self._headers = flows.key_headers(self.base_url, api_key)
        self._http = httpx2.Client(trust_env=False, limits=transport.LIMITS)

    def _run(self, flow: flows.Flow[Result]) -> Result:
        try:
            effect = next(flow)
            while True:
                try:
                    outcome = self._perform(effect)
                except errors.ModelEngineError as failure:
                    effect = flow.throw(failure)
                else:
                    effect = flow.send(outcome)
        except StopIteration as end:
            return cast(Result, end.value)

    def _perform(self, effect: flows.Effect) -> Any:
        if isinstance(effect, flows.Pause):
            return time.sleep(effect.seconds)
        request = self._http.build_request(
            "POST",
            effect.url,
            json=effect.body,
            headers=self._headers(effect.url),
            timeout=transport.timeouts(effect.timeout_s),
        )
        try:
            response = self._http.send(request, stream=True)
            if isinstance(effect, flows.Open) and response.status_code == 200:
                return response
            body = response.read()
        except (httpx2.HTTPError, httpx2.InvalidURL) as failure:
            raise transport.before_answer(failure, effect.url) from failure
        return flows.read_reply(response.status_code, body, effect.url)

    def close(self) -> None:
        self._http.close()


class NameServerClient(Client):
    """Talks to the name server on port 9527."""

    def register(self, service: ServerInfo) -> dict[str, Any]:
        """Lists the service for one lease; call again to renew. Returns `register` and `lease_s`, `renew_s`."""
        return self._run(flows.register(self.base_url, service))

    def deregister(self, service: ServerInfo) -> bool:
        """Takes the service off the list; False where it was not listed."""
        return self._run(flows.deregister(self.base_url, service))

    def get_services(self, protocol: str, name: str) -> list[ServerInfo]:
        """The replicas of the name; empty for an unknown one."""
        return self._run(flows.get_services(self.base_url, protocol, name))

    def get_service_names(self, protocol: str) -> list[str]:
        return self._run(flows.get_service_names(self.base_url, protocol))

    def wait(self, name: str, timeout: float = 600.0) -> list[ServerInfo]:
        """Blocks until the name is served, whatever it speaks. Raises WaitTimeout after `timeout` seconds."""
        return self._run(flows.wait_service_available(self.base_url, None, name, timeout))

    def support_methods(self) -> list[str]:
        msg = self._run(flows.nameserver(self.base_url, NameServerMethod.SUPPORT_METHODS, {}))
        return list(msg["support_methods"])

    def info(self) -> dict[str, Any]:
        return dict(self._run(flows.nameserver(self.base_url, NameServerMethod.INFO, {})))

    def watch(
        self, protocol: str | None = None, name: str | None = None, timeout_s: float = 30.0
    ) -> Stream[list[ServerInfo]]:
        """The services now, and the full list again at each change. Silence of over `timeout_s` is an error."""
        response = self._run(flows.open_watch(self.base_url, protocol, name, timeout_s))
        return Stream(response, flows.WatchParts())


class ModelClient(Client):
    """Finds models of one `protocol` by name. Goes straight to a replica, unless `relayed` (or MODELENGINE_RELAYED=1)
    sends everything through the name server. Where there is no way to the replicas, as through a port-forward or an
    ingress, it finds that out by itself.
    """

    protocol: ClassVar[str]

    def __init__(self, host: str | None = None, *, relayed: bool | None = None, api_key: str | None = None) -> None:
        super().__init__(host, api_key=api_key)
        self._way = flows.way(self.base_url, relayed)

    def get_service_names(self) -> list[str]:
        return self._run(flows.get_service_names(self.base_url, self.protocol))

    def get_services(self, name: str) -> list[ServerInfo] | None:
        """The replicas of the name, None where nobody serves it."""
        return self._run(flows.get_services(self.base_url, self.protocol, name)) or None

    def wait_service_available(self, name: str, timeout: float = 600.0) -> list[ServerInfo]:
        """Blocks until the name is served. Raises WaitTimeout after `timeout` seconds."""
        return self._run(flows.wait_service_available(self.base_url, self.protocol, name, timeout))

    def why_not_served(self, name: str) -> errors.ModelEngineError:
        """What is wrong with a name that nobody answers to: it is unknown, or speaks another protocol."""
        return self._run(flows.not_served(self.base_url, self.protocol, name))

    def support_methods(self, name: str) -> list[str]:
        return list(self._engine_call(name, EngineMethod.SUPPORT_METHODS)["support_methods"])

    def info(self, name: str) -> dict[str, Any]:
        return dict(self._engine_call(name, EngineMethod.INFO))

    def _engine_call(self, name: str, method: EngineMethod) -> Any:
        return self._run(flows.engine_call(self.base_url, self.protocol, name, method, self._way))


class ChatClient(ModelClient):
    """Finds a model by name and chats with it, on any of its replicas; `relayed` as in `ModelClient`.

    with ChatClient() as client:
        client.wait_service_available("demo")
        print(client.chat("demo", [{"role": "user", "content": "hello"}]).content)
    """

    protocol = CHAT

    @overload
    def chat(
        self,
        name: str,
        messages: Sequence[Message | Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: ToolChoice | None = None,
        parallel_tool_calls: bool | None = None,
        stream: Literal[False] = False,
        options: ChatOptions | Mapping[str, Any] | None = None,
        timeout: float = 600.0,
    ) -> ChatResponse: ...

    @overload
    def chat(
        self,
        name: str,
        messages: Sequence[Message | Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: ToolChoice | None = None,
        parallel_tool_calls: bool | None = None,
        stream: Literal[True],
        options: ChatOptions | Mapping[str, Any] | None = None,
        timeout: float = 600.0,
    ) -> Stream[ChatChunk]: ...

    def chat(
        self,
        name: str,
        messages: Sequence[Message | Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: ToolChoice | None = None,
        parallel_tool_calls: bool | None = None,
        stream: bool = False,
        options: ChatOptions | Mapping[str, Any] | None = None,
        timeout: float = 600.0,
    ) -> ChatResponse | Stream[ChatChunk]:
        """One answer, whole or as a stream of parts: content, thoughts and calls of tools, as in ChatResponse.

        `timeout` is for the whole answer, or per part of a stream. Raises NotFound for an unknown name, InvalidRequest
        for a bad field, Busy when every replica is full, StreamBroken when a stream ends before its final part.
        """
        request = chat_request(
            name,
            messages,
            tools,
            options,
            stream,
            tool_choice=tool_choice,
            parallel_tool_calls=parallel_tool_calls,
        )
        if not stream:
            return self._run(flows.chat(self.base_url, request, timeout, self._way))
        response = self._run(flows.open_chat(self.base_url, request, timeout, self._way))
        return Stream(response, flows.ChatParts())
