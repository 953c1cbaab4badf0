"""Lists of records as people and programs want them: a table, names only, JSON or YAML."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelengine.cli.options import Format

Record = Mapping[str, Any]

# Nobody's terminal is so wide: what is piped is never wrapped or cut.
UNLIMITED = 100_000
MISSING = "-"


@dataclass(frozen=True, slots=True)
class Column:
    """`text` makes the cell; by default it is the record's value under the title in small letters."""

    title: str
    text: Callable[[Record], str] | None = None
    is_wide: bool = False

    def cell(self, record: Record) -> str:
        if self.text is not None:
            return self.text(record)
        value = record.get(self.title.lower())
        return MISSING if value is None else str(value)


def show(records: Sequence[Record], columns: Sequence[Column], form: Format, key: str = "name") -> None:
    """Prints the records on stdout. JSON and YAML carry all that is known, a table only what its columns say, and
    `name` only the `key` of each."""
    match form:
        case Format.JSON:
            print(json.dumps(records, ensure_ascii=False, indent=2))
        case Format.YAML:
            import yaml

            print(yaml.safe_dump(list(records), allow_unicode=True, sort_keys=False), end="")
        case Format.NAME:
            print("".join(f"{record[key]}\n" for record in records), end="")
        case Format.TABLE | Format.WIDE:
            _print_table(records, [column for column in columns if form is Format.WIDE or not column.is_wide])


def _print_table(records: Sequence[Record], columns: Sequence[Column]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.title, overflow="fold")
    for record in records:
        # As Text, so that a name with brackets is not taken for markup.
        table.add_row(*(Text(column.cell(record)) for column in columns))
    if sys.stdout.isatty():
        Console().print(table)
        return
    console = Console(width=UNLIMITED)
    with console.capture() as printed:
        console.print(table)
    print("".join(f"{line.rstrip()}\n" for line in printed.get().splitlines()), end="")


def duration(seconds: float) -> str:
    """`45s`, `12m`, `3h`, `5d`: the largest unit that fits."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f}{unit}"
    return f"{seconds:.0f}s"


def count(number: int) -> str:
    """`3.4M`, `7.6B`: parameters of a model."""
    for unit, size in (("B", 10**9), ("M", 10**6), ("K", 10**3)):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return str(number)


def size(number: float) -> str:
    """`512 MiB`, `1.5 GiB`."""
    for unit, length in (("GiB", 2**30), ("MiB", 2**20)):
        if number >= length:
            return f"{number / length:.1f} {unit}"
    return f"{number:.0f} bytes"
