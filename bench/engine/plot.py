"""Bars with whiskers as an SVG, without a library: a row of panels for each shape, a panel for each point. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from bench.stats import Spread

LABELS, PANEL, GAP, LINE, BAR, TOP, BOTTOM = 150, 170, 22, 20, 13, 56, 34
# What is left of a panel for the number behind its longest whisker.
ROOM = 0.78
OURS, THEIRS, INK, FAINT = "#1f6f8b", "#b9c0c6", "#222222", "#777777"
FONT = "font-family='sans-serif' font-size='11'"


@dataclass(frozen=True, slots=True)
class Panel:
    """`bars` by engine; each row of the plot has the same engines in the same order."""

    title: str
    bars: Mapping[str, Spread]


def render(title: str, note: str, rows: Mapping[str, Sequence[Panel]], ours: str) -> str:
    """`rows` by name; engines whose names begin with `ours` stand out."""
    heights = {name: TOP + LINE * max(len(panel.bars) for panel in panels) for name, panels in rows.items()}
    width = LABELS + max(len(panels) for panels in rows.values()) * (PANEL + GAP)
    height = BOTTOM + sum(heights.values()) + BOTTOM
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' {FONT} fill='{INK}'>",
        f"<rect width='{width}' height='{height}' fill='white'/>",
        _text(10, 22, title, "font-size='15' font-weight='bold'"),
    ]
    y = BOTTOM
    for name, panels in rows.items():
        parts.append(_text(10, y + TOP - 30, name, "font-size='13' font-weight='bold'"))
        labels = list(dict.fromkeys(engine for panel in panels for engine in panel.bars))
        parts += [
            _text(LABELS - 8, y + TOP + LINE * i + BAR - 3, label, "text-anchor='end'")
            for i, label in enumerate(labels)
        ]
        for number, panel in enumerate(panels):
            parts += _panel(panel, labels, LABELS + number * (PANEL + GAP), y + TOP, ours)
        y += heights[name]
    parts += [_text(10, height - 12, note, f"fill='{FAINT}'"), "</svg>"]
    return "\n".join(parts) + "\n"


def _panel(panel: Panel, labels: Sequence[str], x: int, y: int, ours: str) -> list[str]:
    scale = PANEL * ROOM / max(spread.maximum for spread in panel.bars.values())
    parts = [_text(x, y - 9, panel.title, "font-weight='bold'")]
    for i, label in enumerate(labels):
        if label not in panel.bars:
            continue
        spread, top = panel.bars[label], y + LINE * i
        middle, fill = top + BAR / 2, OURS if label.startswith(ours) else THEIRS
        least, most = (x + scale * value for value in (spread.minimum, spread.maximum))
        parts += [
            f"<rect x='{x}' y='{top}' width='{scale * spread.median:.1f}' height='{BAR}' fill='{fill}'/>",
            f"<path d='M{least:.1f} {middle}H{most:.1f}' stroke='{INK}'/>",
            _text(most + 4, top + BAR - 3, f"{spread.median:.3g}", ""),
        ]
    return parts


def _text(x: float, y: float, words: str, style: str) -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' {style}>{escape(words)}</text>"
