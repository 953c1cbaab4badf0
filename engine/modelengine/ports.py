"""Who listens on a TCP port: a server that finds its port taken says by whom, and what to do about it."""

from __future__ import annotations

import http.client
from typing import Any

from modelengine import addresses, errors, wire

ASK_TIMEOUT_S = 1.0
COMMAND_LENGTH = 100


def taken(host: str, port: int) -> errors.PortTaken:
    """The error for a port that could not be bound; asks around, which may take two seconds."""
    return errors.PortTaken(
        f"port {port} on {host} is taken by {describe_listener(host, port)}; "
        "choose another with --port N or MODELENGINE_LISTEN_PORT"
    )


def describe_listener(host: str, port: int) -> str:
    """One phrase: "a ModelEngine name server (version 0.1.0, pid 7)", else the process, else "another program"."""
    return _model_engine(host, port) or _process(port) or "another program (of another user, or in another container)"


def _model_engine(host: str, port: int) -> str | None:
    """What the listener says about itself, None when it is no server of ours."""
    if info := _ask(host, port, "/nameserver/info"):
        return f"a {info.get('name', 'ModelEngine name server')} ({_identity(info)})"
    if info := _ask(host, port, "/engine/info"):
        return f"a ModelEngine engine that serves {info.get('name')!r} ({_identity(info)})"
    return None


def _identity(info: dict[str, Any]) -> str:
    return f"version {info.get('version', 'unknown')}, pid {info.get('pid', 'unknown')}"


def _ask(host: str, port: int, path: str) -> dict[str, Any] | None:
    # Whoever listens on all interfaces answers on the loopback, too.
    connection = http.client.HTTPConnection(addresses.dialled_here(host), port, timeout=ASK_TIMEOUT_S)
    try:
        connection.request("POST", path, body=b"{}", headers={"content-type": "application/json"})
        msg = wire.unwrap(wire.decode(connection.getresponse().read(65536)))
    except (OSError, http.client.HTTPException, errors.ModelEngineError):
        return None
    finally:
        connection.close()
    return msg if isinstance(msg, dict) else None


def _process(port: int) -> str | None:
    import psutil

    try:
        listeners = [
            found.pid
            for found in psutil.net_connections(kind="tcp")
            if found.status == psutil.CONN_LISTEN and found.laddr and found.laddr.port == port and found.pid
        ]
        if not listeners:
            return None
        process = psutil.Process(listeners[0])
        command = " ".join(process.cmdline())[:COMMAND_LENGTH]
        return f"{process.name()} (pid {process.pid}: {command})"
    except psutil.Error:
        return None
