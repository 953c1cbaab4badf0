"""Names for the shell's completion: asked of the name server, and given up quickly, for somebody waits at a prompt."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

import typer

from modelengine import errors, flows, wire
from modelengine.protocol import CHAT, NameServerMethod

TIMEOUT_S = 0.3


def names(ctx: typer.Context, incomplete: str) -> list[str]:
    """The served chat names that begin with what is typed; none when nobody answers at once."""
    host = ctx.params.get("host") or (ctx.parent.params.get("host") if ctx.parent else None)
    try:
        return [name for name in _served(flows.base_url(host)) if name.startswith(incomplete)]
    except (OSError, http.client.HTTPException, errors.ModelEngineError, KeyError, TypeError):
        return []


def _served(base: str) -> list[str]:
    # Not the client: importing it would take as long as all the rest.
    parts = urlsplit(base)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    try:
        connection.request(
            "POST",
            f"{parts.path}/nameserver/{NameServerMethod.GET_SERVICE_NAMES}",
            body=wire.encode({"protocol": CHAT}),
            headers={"content-type": "application/json"},
        )
        return list(wire.unwrap(wire.decode(connection.getresponse().read()))["service_names"])
    finally:
        connection.close()
