"""`modelengine wait NAME`: returns when the name is served; exit code 4 when it is not in time."""

from __future__ import annotations

from typing import Annotated

import typer

from modelengine import errors
from modelengine.cli import options
from modelengine.cli.reach import Cluster, Reach
from modelengine.protocol import to_json


def wait(
    reach: Reach,
    name: options.Name,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait.")] = 600.0,
    output: options.Output = options.Format.TABLE,
) -> None:
    """Wait until a name is served, and list its replicas."""
    from modelengine.cli import tables
    from modelengine.client import NameServerClient

    with reach.opened() as door, NameServerClient(door.host) as client:
        try:
            services = client.wait(name, timeout)
        except errors.WaitTimeout as late:
            if reach.cluster is None:
                raise
            raise errors.WaitTimeout(f"{late.message}; {in_cluster(reach.cluster, name)}") from late
    columns = [*map(tables.Column, ("NAME", "HOST", "PORT", "PROTOCOL"))]
    tables.show([to_json(service) for service in services], columns, output)


def in_cluster(cluster: Cluster, name: str) -> str:
    """Why the name is not served, as the cluster knows it."""
    from modelengine.cli import engines
    from modelengine.cli.kubectl import Kubectl

    try:
        return engines.why_not(Kubectl(cluster).engines(), name)
    except errors.ModelEngineError as unknown:
        return unknown.message
