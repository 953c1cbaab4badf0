"""The `modelengine` command: its verbs, and where it starts and ends.

Every verb's file holds its command line only; what is heavy (the HTTP client, tables, the prompt) is imported when the
verb runs, so that `--help` and completion stay quick.
"""

from __future__ import annotations

import sys
from typing import NoReturn

import typer

from modelengine.cli import demo, doctor, exits, ls, options, ps, pull, up, version, wait
from modelengine.cli import run as run_verb

# Those that ask a name server, and take --host.
CLIENT_VERBS = (run_verb.run, ls.ls, ps.ps, wait.wait, demo.demo, doctor.doctor)

app = typer.Typer(
    name="modelengine",
    # Plain help: the rich one takes longer to import than everything else here.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def main(ctx: typer.Context, host: options.Host = None) -> None:
    """Names for models: start them, find them on port 9527, and chat with them."""
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
    if host is not None:
        # Before the verb or behind it, the option means the same. `up` has another one, the address to listen on.
        ctx.default_map = {verb.__name__: {"host": host} for verb in CLIENT_VERBS}


for verb in (up.up, *CLIENT_VERBS, pull.pull, version.version):
    app.command()(verb)


def run() -> NoReturn:
    """The console entry point."""
    sys.exit(exits.guarded(lambda: app(prog_name="modelengine", standalone_mode=False)))
