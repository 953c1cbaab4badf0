"""Where the verbs find the front door: at an address, or in a cluster. The options for it are the same for all of them,
and are written once, here: a verb that takes a `Reach` gets them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import typer

from modelengine.cli import options


@dataclass(frozen=True, slots=True)
class Cluster:
    """Which cluster, in the words of kubectl; None where its own default stands."""

    context: str | None = None
    namespace: str | None = None
    kubeconfig: str | None = None
    front_door_namespace: str | None = None

    @property
    def kubectl_options(self) -> list[str]:
        """Which cluster and who asks; the namespace is not always wanted, and not in here."""
        given = (("--context", self.context), ("--kubeconfig", self.kubeconfig))
        return [f"{option}={value}" for option, value in given if value is not None]


@dataclass(frozen=True, slots=True)
class Door:
    """An address that answers, and whether chats have to go through it: None lets the client find out."""

    host: str | None
    relayed: bool | None


@dataclass(frozen=True, slots=True)
class Reach:
    """`cluster` None: `host` is the address, or the environment says it."""

    host: str | None = None
    cluster: Cluster | None = None

    @contextmanager
    def opened(self) -> Iterator[Door]:
        """The front door, with a port-forward to it where it is in a cluster."""
        if self.cluster is None:
            yield Door(self.host, None)
            return
        from modelengine.cli import port_forward

        with port_forward.to_front_door(self.cluster) as address:
            # The replicas' addresses are the cluster's own; from here there is no way to them.
            yield Door(address, True)


CLUSTER_OPTIONS: Mapping[str, Any] = {
    "context": options.Context,
    "namespace": options.Namespace,
    "kubeconfig": options.Kubeconfig,
    "front_door_namespace": options.FrontDoorNamespace,
}
OPTIONS: Mapping[str, Any] = {"host": options.Host, **CLUSTER_OPTIONS}


def command(verb: Callable[..., None], is_plugin: bool) -> Callable[..., None]:
    """The verb with options in the place of its `reach`. As kubectl's plugin it means a cluster, unless told a host."""
    own = inspect.signature(verb, eval_str=True).parameters
    if "reach" not in own:
        return verb

    def run(**values: Any) -> None:
        where = {name: values.pop(name) for name in OPTIONS}
        verb(**values, reach=chosen(where, is_plugin))

    kept = [parameter for name, parameter in own.items() if name != "reach"]
    run.__name__, run.__doc__ = verb.__name__, verb.__doc__
    run.__annotations__ = {}
    run.__signature__ = inspect.Signature([*kept, *parameters()])  # type: ignore[attr-defined]  # typer reads it
    return run


def parameters() -> list[inspect.Parameter]:
    kind = inspect.Parameter.KEYWORD_ONLY
    return [inspect.Parameter(name, kind, default=None, annotation=option) for name, option in OPTIONS.items()]


def chosen(values: Mapping[str, str | None], is_plugin: bool) -> Reach:
    """Raises BadParameter for an address and a cluster at once."""
    of_cluster = {name: values[name] for name in CLUSTER_OPTIONS}
    has_cluster = any(value is not None for value in of_cluster.values())
    if values["host"] is not None and has_cluster:
        raise typer.BadParameter("--host is an address; --context, -n and --kubeconfig are of a cluster")
    in_cluster = has_cluster or (is_plugin and values["host"] is None)
    return Reach(values["host"], Cluster(**of_cluster) if in_cluster else None)
