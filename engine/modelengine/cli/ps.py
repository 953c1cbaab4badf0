"""`modelengine ps`: every replica, and what it says of itself; in a cluster also its pod and its node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelengine.cli import options
from modelengine.cli.reach import Cluster, Reach
from modelengine.protocol import ServerInfo, to_json


def ps(
    reach: Reach, output: options.Output = options.Format.TABLE, all_namespaces: options.AllNamespaces = False
) -> None:
    """List the replicas behind the names."""
    if reach.cluster is not None or all_namespaces:
        in_cluster(reach.cluster or Cluster(), output, all_namespaces)
        return
    from modelengine.cli import tables
    from modelengine.cli.replicas import Replicas

    with Replicas(reach.host) as client:
        services = sorted(client.all(), key=lambda service: (service.name, service.host, service.port))
        records = [record(*pair) for pair in zip(services, client.infos(services), strict=True)]
    columns = [
        *map(tables.Column, ("NAME", "HOST", "PORT", "DEVICE", "DTYPE", "CONTEXT", "RUNNING", "WAITING")),
        tables.Column("UPTIME", lambda known: _if_any(known, "uptime_s", tables.duration)),
        tables.Column("PARAMETERS", lambda known: _if_any(known, "parameters", tables.count), is_wide=True),
        *(tables.Column(title, is_wide=True) for title in ("PROTOCOL", "ARCHITECTURE", "VERSION", "PID")),
    ]
    tables.show(records, columns, output)


def in_cluster(cluster: Cluster, output: options.Format, all_namespaces: bool) -> None:
    """The engines' pods, those that do not run included."""
    from datetime import UTC, datetime

    from modelengine.cli import engines, pods, tables
    from modelengine.cli.kubectl import Kubectl

    kubectl = Kubectl(cluster)
    found = pods.listed(kubectl, all_namespaces)
    infos = pods.infos(kubectl, found)
    records = [engines.pod_record(pod, info, datetime.now(UTC)) for pod, info in zip(found, infos, strict=True)]
    columns = [
        *[tables.Column("NAMESPACE")] * all_namespaces,
        *map(tables.Column, ("NAME", "POD", "NODE", "STATE", "DEVICE", "RUNNING", "WAITING")),
        tables.Column("AGE", lambda known: tables.duration(known["age_s"])),
        *(tables.Column(title, is_wide=True) for title in ("HOST", "DTYPE", "CONTEXT", "RESTARTS", "VERSION")),
    ]
    tables.show(records, columns, output)


def record(service: ServerInfo, info: Mapping[str, Any] | None) -> dict[str, Any]:
    """Where the replica is and what it says; one that says nothing has its address only."""
    known = dict(info or {})
    load = known.get("load") or {}
    own = {
        "context": known.get("context_length"),
        "running": load.get("running"),
        "waiting": load.get("waiting"),
    }
    return {**known, **to_json(service), **own}


def _if_any(known: Mapping[str, Any], key: str, text: Any) -> str:
    return "-" if known.get(key) is None else str(text(known[key]))
