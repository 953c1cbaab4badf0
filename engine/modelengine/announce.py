"""The lines that say what runs and what is gone, in the words of the first system. Servers print them on stdout, and
`modelengine up` for the servers that it started."""

from __future__ import annotations

NAME_SERVER_GONE = "ModelEngineNameServer clean_up!"
ENGINE_GONE = "ModelEngineInferenceEngine clean_up!"


def name_server_runs(port: int, registry: str = "in memory") -> str:
    """`registry`: where the names come from, say `2 namespaces' ConfigMaps`."""
    return f"ModelEngineNameServer: {registry}, running! port: {port}"


def engine_runs(name: str, port: int) -> str:
    return f"ModelEngineInferenceEngine: {name} is running! port: {port}"
