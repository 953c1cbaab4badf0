"""`modelengine logs NAME`: what the pods of a ModelEngine write, each line with its pod. Only of a cluster."""

from __future__ import annotations

from typing import Annotated

import typer

from modelengine.cli.reach import Cluster, Reach

# kubectl follows five pods and no more, unless it is told.
PODS_AT_ONCE = 100


def logs(
    reach: Reach,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A ModelEngine's name, or the name that it serves.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    previous: Annotated[bool, typer.Option("--previous", "-p", help="Of the containers that ended before.")] = False,
    tail: Annotated[int, typer.Option(min=-1, help="The last so many lines of each; -1: all.")] = -1,
) -> None:
    """Show what a ModelEngine's pods write, the download included."""
    import os
    import sys

    from modelengine import errors
    from modelengine.cli import engines, kubectl
    from modelengine.cli.kubectl import Kubectl
    from modelengine.kinds import as_selector, selector

    if reach.host is not None:
        raise typer.BadParameter("logs are of a cluster, --host is not")
    asking = Kubectl(reach.cluster or Cluster())
    engine = engines.find(asking.engines(), name)
    namespace, own_name = engine["metadata"]["namespace"], engine["metadata"]["name"]
    where = (f"--namespace={namespace}", f"--selector={as_selector(selector(own_name))}")
    if not any(engines.has_begun(pod) for pod in asking.items("pods", *where)):
        why = engines.condition(engine, "Ready").get("message") or "its status says nothing yet"
        raise errors.Unavailable(f"no pod of {own_name} has started: {why}")
    how = [f"--follow={str(follow).lower()}", f"--previous={str(previous).lower()}", f"--tail={tail}"]
    argv = asking.argv(
        "logs", *where, *how, "--all-containers", "--prefix", "--ignore-errors", f"--max-log-requests={PODS_AT_ONCE}"
    )
    sys.stdout.flush()
    try:
        # In our place: signals, pipes and the exit code are kubectl's own.
        os.execvp(argv[0], argv)
    except OSError as failure:
        raise kubectl.not_found(failure) from failure
