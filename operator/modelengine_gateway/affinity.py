"""Where a conversation belongs: the replica that has its beginning in its cache. Pure.

A conversation is known by its beginning, up to the first thing that the user said, which every later turn has as well;
and of any replicas each key has one that is its own (rendezvous hashing). So front doors agree without a word between
them, a restarted one forgets nothing, and a replica that comes or goes moves only the conversations that are its.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from modelengine.chats import ChatRequest
from modelengine.protocol import ServerInfo


def key(request: ChatRequest) -> bytes:
    """The same for every turn of a conversation, and another where another `cache_salt` keeps the caches apart."""
    begun = f"{request.model}\0{request.cache_salt or ''}"
    digest = blake2b(begun.encode(errors="surrogatepass"), digest_size=16)
    for message in request.messages:
        digest.update(f"\0{message.role}\0{message.content or ''}".encode(errors="surrogatepass"))
        if message.role == "user":
            break
    return digest.digest()


def home(key: bytes, services: Sequence[ServerInfo]) -> ServerInfo:
    """The replica that the conversation belongs to."""
    return max(services, key=lambda info: _rank(key, info))


def _rank(key: bytes, info: ServerInfo) -> bytes:
    return blake2b(f"{info.host}:{info.port}".encode(errors="surrogatepass"), key=key, digest_size=8).digest()
