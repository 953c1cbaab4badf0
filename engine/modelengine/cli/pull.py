"""`modelengine pull MODEL`: downloads a model into the hub's cache, so that `up` finds it there."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from modelengine.cli import parts


def pull(model: Annotated[str, typer.Argument(metavar="MODEL", help="org/name or hf://org/name@revision.")]) -> None:
    """Download a model, and print the folder it is in."""
    source = parts.load("engine", "modelengine_runtime.source")
    print(source.resolve(model, progress=sys.stderr.isatty()))
