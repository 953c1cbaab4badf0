"""`modelengine doctor`: is everything here that `up`, `pull` and `run` need, and if not, what to do about it."""

from __future__ import annotations

from typing import Annotated

import typer

from modelengine.cli import exits, options


def doctor(
    online: Annotated[bool, typer.Option("--online", help="Also see whether the model hub answers.")] = False,
    output: options.Output = options.Format.TABLE,
    host: options.Host = None,
) -> None:
    """Check this machine, one line per check."""
    from modelengine.cli import checks, diagnosis, tables

    found = diagnosis.checkup(host, online)
    columns = [*map(tables.Column, ("NAME", "STATE", "FOUND", "FIX"))]
    tables.show([check.record for check in found], columns, output)
    if any(check.state is checks.State.FAIL for check in found):
        raise typer.Exit(exits.Code.FAILED)
