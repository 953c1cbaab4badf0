"""`modelengine doctor`: is everything there that the other verbs need, here or in a cluster, and if not, what to do."""

from __future__ import annotations

from typing import Annotated

import typer

from modelengine.cli import exits, options
from modelengine.cli.reach import Reach


def doctor(
    reach: Reach,
    online: Annotated[bool, typer.Option("--online", help="Also see whether the model hub answers.")] = False,
    output: options.Output = options.Format.TABLE,
) -> None:
    """Check this machine, or a cluster, one line per check."""
    from modelengine.cli import checks, tables

    if reach.cluster is None:
        from modelengine.cli import diagnosis

        found = diagnosis.checkup(reach.host, online)
    else:
        from modelengine.cli import cluster_diagnosis

        if online:
            raise typer.BadParameter("--online asks the hub from here; the engines of a cluster ask it from there")
        found = list(cluster_diagnosis.checkup(reach.cluster))
    columns = [*map(tables.Column, ("NAME", "STATE", "FOUND", "FIX"))]
    tables.show([check.record for check in found], columns, output)
    if any(check.state is checks.State.FAIL for check in found):
        raise typer.Exit(exits.Code.FAILED)
