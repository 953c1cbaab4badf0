"""The options that several verbs share, each written once."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from modelengine.cli import completion


class Format(StrEnum):
    TABLE = "table"
    WIDE = "wide"
    NAME = "name"
    JSON = "json"
    YAML = "yaml"


Host = Annotated[
    str | None,
    typer.Option(
        "--host",
        metavar="HOST[:PORT]",
        help="The name server. Default: MODELENGINE_HOST, else 127.0.0.1:9527.",
        show_default=False,
    ),
]
Context = Annotated[
    str | None, typer.Option("--context", metavar="NAME", help="A cluster instead, as a context of kubectl's.")
]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", metavar="NAME", help="The namespace, of that cluster or kubectl's.")
]
Kubeconfig = Annotated[
    str | None,
    typer.Option("--kubeconfig", metavar="FILE", help="The file of clusters, if not kubectl's own."),
]
FrontDoorNamespace = Annotated[
    str | None,
    typer.Option("--front-door-namespace", metavar="NAME", help="Where in the cluster to look for the front door."),
]
Output = Annotated[Format, typer.Option("-o", "--output", metavar="FORMAT", help="table, wide, name, json or yaml.")]
AllNamespaces = Annotated[
    bool, typer.Option("--all-namespaces", "-A", help="Of a cluster: what is in any of its namespaces.")
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="A served name.", autocompletion=completion.names)]
