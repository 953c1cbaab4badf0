"""`modelengine ls`: the names that are served, and by how many; in a cluster also those that are not, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelengine.cli import options
from modelengine.cli.reach import Cluster, Reach
from modelengine.protocol import ServerInfo


def ls(
    reach: Reach, output: options.Output = options.Format.TABLE, all_namespaces: options.AllNamespaces = False
) -> None:
    """List the served names."""
    if reach.cluster is not None or all_namespaces:
        in_cluster(reach.cluster or Cluster(), output, all_namespaces)
        return
    from modelengine.cli import tables
    from modelengine.cli.replicas import Replicas

    with Replicas(reach.host) as client:
        records = by_name(client.all())
    addresses = tables.Column("ADDRESSES", lambda record: ", ".join(record["addresses"]), is_wide=True)
    tables.show(records, [*map(tables.Column, ("NAME", "PROTOCOL", "REPLICAS")), addresses], output)


def in_cluster(cluster: Cluster, output: options.Format, all_namespaces: bool) -> None:
    """The ModelEngines, as their status tells of them."""
    from datetime import UTC, datetime

    from modelengine.cli import engines, tables
    from modelengine.cli.kubectl import Kubectl

    kubectl = Kubectl(cluster)
    found = kubectl.engines(all_namespaces)
    records = [engines.engine_record(engine, datetime.now(UTC)) for engine in found]
    columns = [
        *[tables.Column("NAMESPACE")] * all_namespaces,
        *map(tables.Column, ("NAME", "MODEL", "READY")),
        tables.Column("REPLICAS", lambda record: f"{record['ready_replicas']}/{record['replicas']}"),
        tables.Column("REASON"),
        tables.Column("AGE", lambda record: tables.duration(record["age_s"])),
        *(tables.Column(title, is_wide=True) for title in ("PROTOCOL", "SOURCE", "DEVICE")),
        tables.Column("STAGE", engines.progress, is_wide=True),
        tables.Column("MESSAGE", is_wide=True),
    ]
    # What can be chatted with is the model's name, not the object's.
    tables.show(records, columns, output, key="model")


def by_name(services: Sequence[ServerInfo]) -> list[dict[str, Any]]:
    """One record for each name and protocol, in the order of the names."""
    addresses: dict[tuple[str, str], list[str]] = {}
    for service in services:
        addresses.setdefault((service.name, service.protocol), []).append(service.url.removeprefix("http://"))
    return [
        {"name": name, "protocol": protocol, "replicas": len(at), "addresses": at}
        for (name, protocol), at in sorted(addresses.items())
    ]
