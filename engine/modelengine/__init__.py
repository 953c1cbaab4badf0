"""ModelEngine's client: ask port 9527 for a model by name, and chat with whoever serves it.

The names below are loaded when they are first used, so that `import modelengine` and the CLI's help stay quick.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelengine.aio import AsyncChatClient, AsyncNameServerClient, AsyncStream
    from modelengine.chats import ChatChunk, ChatOptions, ChatRequest, ChatResponse, Message, ResponseFormat
    from modelengine.client import ChatClient, NameServerClient, Stream
    from modelengine.errors import ModelEngineError
    from modelengine.protocol import ServerInfo, ServerResponse
    from modelengine.retrieval import AsyncEmbedClient, AsyncRerankClient, EmbedClient, RerankClient
    from modelengine.vectors import EmbedOptions, EmbedResponse, RerankOptions, RerankResponse

__all__ = [
    "AsyncChatClient",
    "AsyncEmbedClient",
    "AsyncNameServerClient",
    "AsyncRerankClient",
    "AsyncStream",
    "ChatChunk",
    "ChatClient",
    "ChatOptions",
    "ChatRequest",
    "ChatResponse",
    "EmbedClient",
    "EmbedOptions",
    "EmbedResponse",
    "Message",
    "ModelEngineError",
    "NameServerClient",
    "RerankClient",
    "RerankOptions",
    "RerankResponse",
    "ResponseFormat",
    "ServerInfo",
    "ServerResponse",
    "Stream",
]

__version__ = version("modelengine")

_HOMES = {
    "modelengine.aio": ("AsyncChatClient", "AsyncNameServerClient", "AsyncStream"),
    "modelengine.client": ("ChatClient", "NameServerClient", "Stream"),
    "modelengine.errors": ("ModelEngineError",),
    "modelengine.chats": ("ChatChunk", "ChatOptions", "ChatRequest", "ChatResponse", "Message", "ResponseFormat"),
    "modelengine.protocol": ("ServerInfo", "ServerResponse"),
    "modelengine.retrieval": ("AsyncEmbedClient", "AsyncRerankClient", "EmbedClient", "RerankClient"),
    "modelengine.vectors": ("EmbedOptions", "EmbedResponse", "RerankOptions", "RerankResponse"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)
