"""Horizontal bars as SVG, readable on a light and on a dark page, by nothing but text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LABELS, VALUES = 900, 420, 60
ROW, BAR, TOP = 26, 16, 64
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600; font-size: 15px } .group { font-weight: 600 } .small { font-size: 11px }
.ours { fill: #0969da } .theirs { fill: #8c959f } .mark { stroke: #cf222e; stroke-width: 2 }
.end { stroke: #8c959f; stroke-dasharray: 3 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .ours { fill: #4493f8 } .theirs { fill: #6e7681 } .mark { stroke: #ff7b72 }
}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar."""

    label: str
    value: float
    text: str
    """What stands at the right."""
    is_ours: bool
    mark: float | None = None
    """Where it is meant to end at least: a line across it."""
    group: str = ""
    """A headline above the first bar of several."""


def drawn(title: str, bars: Sequence[Bar], *, end: float) -> str:
    """The picture.

    Args:
        end: The value of the dashed line from top to bottom, which is what is compared with.
    """
    scale = (WIDTH - LABELS - VALUES) / max([end, *(bar.value for bar in bars)])
    height = TOP + ROW * (len(bars) + len({bar.group for bar in bars} - {""}))
    at_end = LABELS + end * scale
    has_marks = any(bar.mark is not None for bar in bars)
    legend = f"dashed: {end:.2f}" + ("; red: the target" if has_marks else "")
    box = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    name = escape(title)
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img" aria-label="{name}">',
            f"<style>{STYLE}</style>",
            f'<text class="title" x="12" y="24">{name}</text>',
            f'<text class="small" x="12" y="44">{legend}</text>',
            *_rows(bars, scale),
            f'<line class="end" x1="{at_end:.0f}" x2="{at_end:.0f}" y1="52" y2="{height - 6}"/>',
            "</svg>\n",
        )
    )


def _rows(bars: Sequence[Bar], scale: float) -> Iterator[str]:
    y, group = TOP, ""
    for bar in bars:
        head = ""
        if bar.group != group:
            group = bar.group
            head = f'<text class="group" x="12" y="{y + 16}">{escape(group)}</text>'
            y += ROW
        length = bar.value * scale
        kind = "ours" if bar.is_ours else "theirs"
        yield (
            f"{head}"
            f'<text x="{LABELS - 10}" y="{y + 13}" text-anchor="end">{escape(bar.label)}</text>'
            f'<rect class="{kind}" x="{LABELS}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"/>'
            f'<text x="{WIDTH - 10}" y="{y + 13}" text-anchor="end">{escape(bar.text)}</text>'
            f"{_mark(bar, y, scale)}"
        )
        y += ROW


def _mark(bar: Bar, y: int, scale: float) -> str:
    if bar.mark is None:
        return ""
    x = LABELS + bar.mark * scale
    return f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 3}" y2="{y + BAR + 3}"/>'
