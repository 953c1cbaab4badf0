"""The `modelengine` command: its verbs, and where it starts and ends.

Every verb's file holds its command line only; what is heavy (the HTTP client, tables, the prompt) is imported when the
verb runs, so that `--help` and completion stay quick.
"""

from __future__ import annotations

import sys
from typing import NoReturn

import typer

from modelengine.cli import demo, doctor, exits, logs, ls, options, ps, pull, reach, up, version, wait
from modelengine.cli import run as run_verb

# Those that ask a name server or a cluster, and take the options of `reach`.
CLIENT_VERBS = (run_verb.run, ls.ls, ps.ps, wait.wait, logs.logs, demo.demo, doctor.doctor)


def build(is_plugin: bool) -> typer.Typer:
    """The command, on its own or as kubectl's plugin, which leaves out what is of one machine."""
    app = typer.Typer(
        name="modelengine",
        # Plain help: the rich one takes longer to import than everything else here.
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=not is_plugin,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(main)
    machine = () if is_plugin else (up.up,)
    files = () if is_plugin else (pull.pull,)
    for verb in (*machine, *CLIENT_VERBS, *files, version.version):
        app.command()(reach.command(verb, is_plugin))
    return app


def main(
    ctx: typer.Context,
    host: options.Host = None,
    context: options.Context = None,
    namespace: options.Namespace = None,
    kubeconfig: options.Kubeconfig = None,
    front_door_namespace: options.FrontDoorNamespace = None,
) -> None:
    """Names for models: start them, find them on port 9527, and chat with them."""
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
    given = {name: value for name, value in ctx.params.items() if value is not None}
    if given:
        # Before the verb or behind it, an option means the same. `up` has another `host`, the address to listen on.
        ctx.default_map = {verb.__name__: given for verb in CLIENT_VERBS}


app = build(is_plugin=False)


def run() -> NoReturn:
    """The console entry point."""
    sys.exit(exits.guarded(lambda: app(prog_name="modelengine", standalone_mode=False)))


def run_as_plugin() -> NoReturn:
    """The entry point of `kubectl-modelengine`, which kubectl finds on the PATH and runs as `kubectl modelengine`."""
    plugin = build(is_plugin=True)
    sys.exit(exits.guarded(lambda: plugin(prog_name="kubectl modelengine", standalone_mode=False)))
