"""The asyncio twins of `client.py`: `AsyncNameServerClient` and `AsyncChatClient`, over the same flows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar, cast, overload

import httpx2

from modelengine import errors, flows, transport
from modelengine.chat_request import chat_request
from modelengine.chats import ChatChunk, ChatOptions, ChatResponse, Message, ToolChoice
from modelengine.protocol import CHAT, EngineMethod, NameServerMethod, ServerInfo

Part = TypeVar("Part")
Result = TypeVar("Result")


class AsyncClosing:
    """An async context that closes itself."""

    async def close(self) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()


class AsyncStream(AsyncClosing, Generic[Part]):
    """An open answer: iterate it, or close it early, which aborts the request on the engine."""

    def __init__(self, response: httpx2.Response, parser: flows.PartsReader[Part]) -> None:
        self._response = response
        self._parts = self._read(parser)

    async def _read(self, parser: flows.PartsReader[Part]) -> AsyncIterator[Part]:
        try:
            async for data in self._response.aiter_raw():
                for part in parser.feed(data):
                    yield part
            parser.end()
        except (httpx2.HTTPError, httpx2.StreamError) as failure:
            if not parser.done:
                raise transport.inside_answer(failure, str(self._response.url)) from failure
        finally:
            await self._response.aclose()

    def __aiter__(self) -> AsyncIterator[Part]:
        return self._parts

    async def __anext__(self) -> Part:
        return await anext(self._parts)

    async def close(self) -> None:
        await self._response.aclose()


class AsyncClient(AsyncClosing):
    """Drives flows with asyncio. `host` is `HOST[:PORT]`; default `MODELENGINE_HOST`, else localhost:9527.

    `api_key` is for a name server that asks for one; default `MODELENGINE_API_KEY`.
    """

    def __init__(self, host: str | None = None, *, api_key: str | None = None) -> None:
        self.base_url = flows.base_url(host)
        self._headers = flows.key_headers(self.base_url, api_key)
        self._http = httpx2.AsyncClient(trust_env=False, limits=transport.LIMITS)

    async def _run(self, flow: flows.Flow[Result]) -> Result:
        try:
            effect = next(flow)
            while True:
                try:
                    outcome = await self._perform(effect)
                except errors.ModelEngineError as failure:
                    effect = flow.throw(failure)
                else:
                    effect = flow.send(outcome)
        except StopIteration as end:
            return cast(Result, end.value)

    async def _perform(self, effect: flows.Effect) -> Any:
        if isinstance(effect, flows.Pause):
            return await asyncio.sleep(effect.seconds)
        request = self._http.build_request(
            "POST",
            effect.url,
            json=effect.body,
            headers=self._headers(effect.url),
            timeout=transport.timeouts(effect.timeout_s),
        )
        try:
            response = await self._http.send(request, stream=True)
            if isinstance(effect, flows.Open) and response.status_code == 200:
                return response
            body = await response.aread()
        except (httpx2.HTTPError, httpx2.InvalidURL) as failure:
            raise transport.before_answer(failure, effect.url) from failure
        return flows.read_reply(response.status_code, body, effect.url)

    async def close(self) -> None:
        await self._http.aclose()


class AsyncNameServerClient(AsyncClient):
    """Talks to the name server on port 9527."""

    async def register(self, service: ServerInfo) -> dict[str, Any]:
        """Lists the service for one lease; call again to renew. Returns `register` and `lease_s`, `renew_s`."""
        return await self._run(flows.register(self.base_url, service))

    async def deregister(self, service: ServerInfo) -> bool:
        """Takes the service off the list; False where it was not listed."""
        return await self._run(flows.deregister(self.base_url, service))

    async def get_services(self, protocol: str, name: str) -> list[ServerInfo]:
        """The replicas of the name; empty for an unknown one."""
        return await self._run(flows.get_services(self.base_url, protocol, name))

    async def get_service_names(self, protocol: str) -> list[str]:
        return await self._run(flows.get_service_names(self.base_url, protocol))

    async def wait(self, name: str, timeout: float = 600.0) -> list[ServerInfo]:
        """Returns when the name is served, whatever it speaks. Raises WaitTimeout after `timeout` seconds."""
        return await self._run(flows.wait_service_available(self.base_url, None, name, timeout))

    async def support_methods(self) -> list[str]:
        msg = await self._run(flows.nameserver(self.base_url, NameServerMethod.SUPPORT_METHODS, {}))
        return list(msg["support_methods"])

    async def info(self) -> dict[str, Any]:
        return dict(await self._run(flows.nameserver(self.base_url, NameServerMethod.INFO, {})))

    async def watch(
        self, protocol: str | None = None, name: str | None = None, timeout_s: float = 30.0
    ) -> AsyncStream[list[ServerInfo]]:
        """The services now, and the full list again at each change. Silence of over `timeout_s` is an error."""
        response = await self._run(flows.open_watch(self.base_url, protocol, name, timeout_s))
        return AsyncStream(response, flows.WatchParts())


class AsyncModelClient(AsyncClient):
    """Finds models of one `protocol` by name; `relayed` as in `ModelClient`."""

    protocol: ClassVar[str]

    def __init__(self, host: str | None = None, *, relayed: bool | None = None, api_key: str | None = None) -> None:
        super().__init__(host, api_key=api_key)
        self._way = flows.way(self.base_url, relayed)

    async def get_service_names(self) -> list[str]:
        return await self._run(flows.get_service_names(self.base_url, self.protocol))

    async def get_services(self, name: str) -> list[ServerInfo] | None:
        """The replicas of the name, None where nobody serves it."""
        return (await self._run(flows.get_services(self.base_url, self.protocol, name))) or None

    async def wait_service_available(self, name: str, timeout: float = 600.0) -> list[ServerInfo]:
        """Blocks until the name is served. Raises WaitTimeout after `timeout` seconds."""
        return await self._run(flows.wait_service_available(self.base_url, self.protocol, name, timeout))

    async def support_methods(self, name: str) -> list[str]:
        msg = await self._run(
            flows.engine_call(self.base_url, self.protocol, name, EngineMethod.SUPPORT_METHODS, self._way)
        )
        return list(msg["support_methods"])

    async def info(self, name: str) -> dict[str, Any]:
        return dict(
            await self._run(flows.engine_call(self.base_url, self.protocol, name, EngineMethod.INFO, self._way))
        )


class AsyncChatClient(AsyncModelClient):
    """Finds a model by name and chats with it, on any of its replicas.

    async with AsyncChatClient() as client:
        stream = await client.chat("demo", [{"role": "user", "content": "hello"}], stream=True)
        async for part in stream:
            print(part.content or "", end="")
    """

    protocol = CHAT

    @overload
    async def chat(
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
    async def chat(
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
    ) -> AsyncStream[ChatChunk]: ...

    async def chat(
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
    ) -> ChatResponse | AsyncStream[ChatChunk]:
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
            return await self._run(flows.chat(self.base_url, request, timeout, self._way))
        return AsyncStream(
            await self._run(flows.open_chat(self.base_url, request, timeout, self._way)), flows.ChatParts()
        )
