"""`modelengine ls`: the names that are served, and by how many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelengine.cli import options
from modelengine.protocol import ServerInfo


def ls(output: options.Output = options.Format.TABLE, host: options.Host = None) -> None:
    """List the served names."""
    from modelengine.cli import tables
    from modelengine.cli.replicas import Replicas

    with Replicas(host) as client:
        records = by_name(client.all())
    addresses = tables.Column("ADDRESSES", lambda record: ", ".join(record["addresses"]), is_wide=True)
    tables.show(records, [*map(tables.Column, ("NAME", "PROTOCOL", "REPLICAS")), addresses], output)


def by_name(services: Sequence[ServerInfo]) -> list[dict[str, Any]]:
    """One record for each name and protocol, in the order of the names."""
    addresses: dict[tuple[str, str], list[str]] = {}
    for service in services:
        addresses.setdefault((service.name, service.protocol), []).append(service.url.removeprefix("http://"))
    return [
        {"name": name, "protocol": protocol, "replicas": len(at), "addresses": at}
        for (name, protocol), at in sorted(addresses.items())
    ]
