"""`modelengine wait NAME`: returns when the name is served; exit code 4 when it is not in time."""

from __future__ import annotations

from typing import Annotated

import typer

from modelengine.cli import options
from modelengine.protocol import to_json


def wait(
    name: options.Name,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait.")] = 600.0,
    output: options.Output = options.Format.TABLE,
    host: options.Host = None,
) -> None:
    """Wait until a name is served, and list its replicas."""
    from modelengine.cli import tables
    from modelengine.client import ChatClient

    with ChatClient(host) as client:
        services = client.wait_service_available(name, timeout)
    columns = [*map(tables.Column, ("NAME", "HOST", "PORT", "PROTOCOL"))]
    tables.show([to_json(service) for service in services], columns, output)
