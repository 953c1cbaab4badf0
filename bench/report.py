"""Tables of what was measured: as text for people, as plain data for programs. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench import stats
from bench.stats import Rounds, Spread

GAP = "  "
NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Table:
    """One benchmark's result. `notes` say what is measured and how; a row is a case, a column a quantity."""

    title: str
    notes: Sequence[str]
    rounds: Rounds

    @property
    def quantities(self) -> list[str]:
        return list(dict.fromkeys(q for samples in self.rounds.values() for q in stats.by_quantity(samples)))


def render(table: Table) -> str:
    """The table as lines of text; every cell is `min / median / max` over the rounds."""
    columns = [["", *table.rounds]]
    for quantity in table.quantities:
        columns.append([quantity, *_cells(table, quantity)])
    widths = [max(map(len, column)) for column in columns]
    lines = [table.title, *(f"  {note}" for note in table.notes), ""]
    for first, *cells in zip(*columns, strict=True):
        padded = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))]
        lines.append(GAP.join(padded).rstrip())
    return "\n".join(lines)


def _cells(table: Table, quantity: str) -> list[str]:
    found = [stats.by_quantity(samples).get(quantity) for samples in table.rounds.values()]
    spreads = [None if values is None else stats.spread(values) for values in found]
    digits = decimals([s for s in spreads if s is not None])
    numbers = [None if s is None else [f"{x:.{digits}f}" for x in (s.minimum, s.median, s.maximum)] for s in spreads]
    width = max(len(number) for row in numbers if row is not None for number in row)
    return [NOTHING if row is None else " / ".join(number.rjust(width) for number in row) for row in numbers]


def decimals(spreads: Sequence[Spread]) -> int:
    """How many decimals a column needs so that its smallest median shows three digits; none above 100."""
    sizes = [abs(s.median) for s in spreads if s.median and math.isfinite(s.median)]
    smallest = min(sizes, default=1.0)
    return min(3, max(0, 2 - math.floor(math.log10(smallest))))


def to_json(table: Table) -> dict[str, Any]:
    """The table as plain data, with the value of each round."""
    return {
        "title": table.title,
        "notes": list(table.notes),
        "cases": {
            case: {
                quantity: {"rounds": values, **asdict(stats.spread(values))}
                for quantity, values in stats.by_quantity(samples).items()
            }
            for case, samples in table.rounds.items()
        },
    }
