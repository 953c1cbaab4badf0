"""`modelengine up`: a name server and its engines on this machine, in one window, until Ctrl-C."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import typer

from modelengine import addresses, env
from modelengine.cli import parts
from modelengine.cli.supervision import Supervision
from modelengine.protocol import DEFAULT_PORT, host_in_url


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line asks for; None where the children's own default stands."""

    model: str = "demo"
    name: str | None = None
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
    name_server = Command(argv("modelengine_gateway"), inherited | name_server_env(wanted))
    engine = Command(argv("modelengine_runtime"), inherited | engine_env(wanted) | engine_metrics_env(inherited))
    titles = engine_titles(wanted)
    has_parent = env.flag(os.environ, env.EXIT_WITH_STDIN)
    plan = Supervision(titles, wanted.grace_s, "" if has_parent else hint(wanted))
    supervisor = Supervisor(plan, name_server, dict.fromkeys(titles, engine), wanted.reachable_host)
    return supervisor.run(ends_with_stdin=has_parent)


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
    verb = 'run {name} "hello"' if wanted.engines else "ls"
    return f"try: modelengine {host}{verb}    stop: Ctrl-C"


def _set(**variables: object) -> dict[str, str]:
    return {name: str(value) for name, value in variables.items() if value is not None}
