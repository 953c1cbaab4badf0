"""`modelengine up`: a name server and its engines on this machine, in one window, until Ctrl-C."""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import typer

from modelengine import addresses, env
from modelengine.cli import parts
from modelengine.cli.supervision import Supervision
from modelengine.flows import KEY_VARIABLE
from modelengine.protocol import CHAT, DEFAULT_PORT, host_in_url

# Settings of the front door: where its keys are, and what its own starter's is known by.
API_KEYS = "MODELENGINE_API_KEYS"
OWN_KEY = "MODELENGINE_OWN_KEY"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line asks for; None where the children's own default stands."""

    model: str = "demo"
    name: str | None = None
    protocol: str | None = None
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    engines: int = 1
    device: str | None = None
    dtype: str | None = None
    quantization: str | None = None
    max_batch_size: int | None = None
    max_context: int | None = None
    grace_s: float = 30.0
    log_level: str | None = None

    @property
    def reachable_host(self) -> str:
        """Where this machine itself reaches what listens on `host`."""
        return host_in_url(addresses.dialled_here(self.host))


def up(
    model: Annotated[str, typer.Argument(help="'demo', a folder, 'org/name' or 'hf://org/name@revision'.")] = "demo",
    name: Annotated[str | None, typer.Option(help="The name to serve it under. Default: the model's own.")] = None,
    protocol: Annotated[
        str | None, typer.Option(help="chat, embed or rerank: what the model is asked for. Default: chat.")
    ] = None,
    host: Annotated[
        str, typer.Option(envvar="MODELENGINE_LISTEN_HOST", help="Listen here; 0.0.0.0 opens it to others.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar="MODELENGINE_LISTEN_PORT", min=0, max=65535, help="The name server's; 0 takes any.")
    ] = DEFAULT_PORT,
    engines: Annotated[int, typer.Option(min=0, max=64, help="Replicas of the name; 0: only the name server.")] = 1,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32, bfloat16 or float16.")] = None,
    quantization: Annotated[str | None, typer.Option(help="none, int8 or int4: narrow weights, on a CPU.")] = None,
    max_batch_size: Annotated[int | None, typer.Option(min=1, help="Answers generated at the same time.")] = None,
    max_context: Annotated[int | None, typer.Option(min=0, help="Tokens of prompt and answer together.")] = None,
    grace_s: Annotated[float, typer.Option(min=0, help="How long open answers may go on when stopping.")] = 30.0,
    log_level: Annotated[str | None, typer.Option(help="Of both: DEBUG, INFO, WARNING or ERROR.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="The same as --log-level INFO.")] = False,
) -> None:
    """Serve a model here, with a name server, until Ctrl-C."""
    wanted = Wanted(
        model=model,
        name=name,
        protocol=protocol,
        host=host,
        port=port,
        engines=engines,
        device=device,
        dtype=dtype,
        quantization=quantization,
        max_batch_size=max_batch_size,
        max_context=max_context,
        grace_s=grace_s,
        log_level=log_level or ("INFO" if verbose else None),
    )
    raise typer.Exit(start(wanted))


def start(wanted: Wanted) -> int:
    """Blocks until everything is stopped; gives the exit code."""
    parts.require("gateway", *(["engine"] if wanted.engines else []))
    from modelengine.cli.supervisor import Command, Supervisor

    inherited = dict(os.environ)
    key = own_key(inherited)
    name_server = Command(argv("modelengine_gateway"), inherited | name_server_env(wanted) | key.for_name_server)
    of_engine = engine_env(wanted) | engine_metrics_env(inherited) | key.for_clients
    engine = Command(argv("modelengine_runtime"), inherited | of_engine)
    titles = engine_titles(wanted)
    has_parent = env.flag(os.environ, env.EXIT_WITH_STDIN)
    plan = Supervision(titles, wanted.grace_s, "" if has_parent else hint(wanted))
    children = dict.fromkeys(titles, engine)
    supervisor = Supervisor(plan, name_server, children, wanted.reachable_host, key.text)
    return supervisor.run(ends_with_stdin=has_parent)


@dataclass(frozen=True, slots=True)
class OwnKey:
    """What this `up` and its engines say to a name server that asks for keys; no text where it does not."""

    text: str | None = None

    @property
    def for_name_server(self) -> dict[str, str]:
        """It is told only how to know the key."""
        return {OWN_KEY: f"sha256:{hashlib.sha256(self.text.encode()).hexdigest()}"} if self.text else {}

    @property
    def for_clients(self) -> dict[str, str]:
        return {KEY_VARIABLE: self.text} if self.text else {}


def own_key(inherited: Mapping[str, str]) -> OwnKey:
    """A new one for each start, which is written nowhere; none where the name server asks for none."""
    return OwnKey(secrets.token_urlsafe(32) if inherited.get(API_KEYS, "").strip() else None)


def argv(module: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module)


def name_server_env(wanted: Wanted) -> dict[str, str]:
    return _set(
        MODELENGINE_LISTEN_HOST=wanted.host,
        MODELENGINE_LISTEN_PORT=wanted.port,
        MODELENGINE_GRACE_S=wanted.grace_s,
        MODELENGINE_LOG_LEVEL=wanted.log_level,
    )


def engine_env(wanted: Wanted) -> dict[str, str]:
    return _set(
        MODELENGINE_MODEL_SOURCE=wanted.model,
        MODELENGINE_MODEL_NAME=wanted.name,
        MODELENGINE_PROTOCOL=wanted.protocol,
        MODELENGINE_LISTEN_HOST=wanted.host,
        MODELENGINE_LISTEN_PORT=0,
        # Nobody can dial "every interface": clients are told this machine's own address.
        MODELENGINE_DEVICE=wanted.device,
        MODELENGINE_DTYPE=wanted.dtype,
        MODELENGINE_QUANTIZATION=wanted.quantization,
        MODELENGINE_MAX_BATCH_SIZE=wanted.max_batch_size,
        MODELENGINE_MAX_CONTEXT=wanted.max_context,
        MODELENGINE_GRACE_S=wanted.grace_s,
        MODELENGINE_LOG_LEVEL=wanted.log_level,
    )


def engine_metrics_env(inherited: Mapping[str, str]) -> dict[str, str]:
    """A port that is named is the name server's; each engine beside it takes a free one, and logs which."""
    return _set(MODELENGINE_METRICS_PORT=0) if env.metrics_port(inherited) is not None else {}


def engine_titles(wanted: Wanted) -> list[str]:
    title = f"engine {wanted.name or wanted.model}"
    return [title] if wanted.engines == 1 else [f"{title} #{i + 1}" for i in range(wanted.engines)]


def hint(wanted: Wanted) -> str:
    """How to go on; `{port}` and `{name}` are filled in when they are known."""
    is_default = (wanted.host, wanted.port) == ("127.0.0.1", DEFAULT_PORT)
    host = "" if is_default else f"--host {wanted.reachable_host}:{{port}} "
    verb = 'run {name} "hello"' if wanted.engines and wanted.protocol in (None, CHAT) else "ls"
    return f"try: modelengine {host}{verb}    stop: Ctrl-C"


def _set(**variables: object) -> dict[str, str]:
    return {name: str(value) for name, value in variables.items() if value is not None}
