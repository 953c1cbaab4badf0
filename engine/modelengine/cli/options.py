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
Output = Annotated[Format, typer.Option("-o", "--output", metavar="FORMAT", help="table, wide, name, json or yaml.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="A served name.", autocompletion=completion.names)]
