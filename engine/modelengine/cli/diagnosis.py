"""Looks around for `doctor`. What the findings mean is said in `checks.py`."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from modelengine import errors, flows, ports
from modelengine.cli import checks, parts
from modelengine.cli.checks import Check
from modelengine.client import NameServerClient

# In a process of its own: torch takes seconds to import, and where it is broken it may crash.
ENGINE_PROBE = """
import json, torch
from huggingface_hub import constants
from modelengine_runtime import machine
device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"
print(json.dumps({"torch": torch.__version__, "device": device, "cores": machine.cpu_limit(),
    "memory": machine.free_memory_bytes("cpu"), "cache": constants.HF_HUB_CACHE, "hub": constants.ENDPOINT}))
"""
PROBE_TIMEOUT_S = 120.0
ONLINE_TIMEOUT_S = 5.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def checkup(host: str | None, online: bool) -> list[Check]:
    """Every check that applies. Takes some seconds, most of them for torch."""
    address = flows.base_url(host)
    absent = {extra: parts.missing(extra) for extra in parts.NEEDS}
    engine, engine_failure = (None, "") if absent["engine"] else probe_engine()
    known = engine or {}
    cache = Path(known.get("cache") or Path.home() / ".cache/huggingface/hub")
    info, failure = ask_name_server(address)
    found = [
        checks.python(sys.version_info[:3]),
        checks.memory(known.get("memory") or psutil.virtual_memory().available),
        checks.cores(known.get("cores") or os.cpu_count() or 1, os.cpu_count() or 1),
        *(checks.part(extra, modules) for extra, modules in absent.items()),
    ]
    if not absent["engine"]:
        found.append(checks.torch(engine, engine_failure))
    found += [*check_port(address, info is not None), checks.name_server(address, info, failure)]
    found.append(checks.disk(str(cache), shutil.disk_usage(nearest_existing(cache)).free))
    if online:
        hub = str(known.get("hub") or os.environ.get("HF_ENDPOINT") or "")
        found.append(checks.hub(hub, ask_hub(hub)))
    return found


def probe_engine(script: str = ENGINE_PROBE) -> tuple[Mapping[str, Any] | None, str]:
    """What the engine's libraries report, or None and why not."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return None, f"importing it takes over {PROBE_TIMEOUT_S:g} s"
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]
        return None, f"can't be imported: {last[:200]}"
    return json.loads(done.stdout.splitlines()[-1]), ""


def ask_name_server(address: str) -> tuple[Mapping[str, Any] | None, str]:
    try:
        with NameServerClient(address) as client:
            return client.info(), ""
    except errors.ModelEngineError as failure:
        return None, failure.message


def check_port(address: str, is_name_server: bool) -> list[Check]:
    """Only of this machine's ports can be said who listens."""
    parsed = urlsplit(address)
    host, number = parsed.hostname or "", parsed.port or 0
    if host not in LOOPBACK:
        return []
    try:
        socket.create_connection((host, number), timeout=1).close()
    except OSError:
        return [checks.port(number, None, is_name_server)]
    return [checks.port(number, ports.describe_listener(host, number), is_name_server)]


def ask_hub(endpoint: str) -> str | None:
    """None when the hub answers, else why not."""
    import httpx2

    try:
        # With the proxies of the environment, as the hub's own library does.
        httpx2.head(endpoint, timeout=ONLINE_TIMEOUT_S)
    except (httpx2.HTTPError, httpx2.InvalidURL) as failure:
        return str(failure) or type(failure).__name__
    return None


def nearest_existing(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.parents) if parent.exists())
