"""A chart as SVG: pure geometry, drawn by the server, so that no script is needed to see it.

The drawing has no words in it. So it may be stretched to any width, and the labels around it are
text of the page, which stays readable on a phone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

WIDTH, HEIGHT = 600, 120
TICKS = 2
"""Lines above the ground."""
STEPS_S = (
    *(digit * 10.0**power for power in range(-6, 0) for digit in (1, 2, 5)),
    *(1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0),
    *(3600.0 * hours for hours in (1, 2, 4, 6, 12, 24)),
)
"""Durations that people count in."""

Values = Sequence[float | None]
"""From the left to the right; None: nobody knows."""
Say = Callable[[float | None], str]
"""A value in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """What is drawn of one thing."""

    name: str
    """Its class, too."""
    values: Values
    is_bars: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A path, and how it looks."""

    look: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """What is drawn."""

    title: str
    series: tuple[Series, ...]
    shapes: tuple[Shape, ...]
    ticks: tuple[str, ...]
    """The labels of the lines, from the top down."""
    grid: tuple[float, ...]
    """Where the lines are."""
    slots: tuple[tuple[float, float, str], ...]
    """Of each moment: its left edge, its width, what is said of it."""
    latest: str
    """What was last known."""
    text: str
    """For who can't see it."""

    @property
    def has_data(self) -> bool:
        """Whether anything is known."""
        return any(value is not None for series in self.series for value in series.values)


def drawn(
    title: str,
    series: Sequence[Series],
    moments: Sequence[str],
    say: Say,
    *,
    ceiling: Callable[[float], float],
) -> Chart:
    """The chart of some series, which have a value for each moment.

    Args:
        title: What it shows.
        series: The later ones are drawn over the earlier.
        moments: What each moment is called.
        say: A value in words.
        ceiling: The top of the axis for the largest value: `counts` or `durations`.
    """
    known = [value for s in series for value in s.values if value is not None]
    top = ceiling(max(known, default=0.0))
    shapes = [shape for s in series for shape in _shapes(s, top)]
    width = WIDTH / max(1, len(moments))
    slots = tuple(
        (round(n * width, 2), round(width, 2), f"{moment}: {_said(series, n, say)}")
        for n, moment in enumerate(moments)
    )
    levels = [top * n / TICKS for n in range(TICKS, -1, -1)]
    return Chart(
        title=title,
        series=tuple(series),
        shapes=tuple(shapes),
        ticks=tuple(say(level) for level in levels),
        grid=tuple(_y(level, top) for level in levels),
        slots=slots,
        latest=_latest(series, say),
        text=_text(title, series, say),
    )


def counts(largest: float) -> float:
    """The top of an axis of things that are counted: 2, 4, 10, 20, 40, 100, …"""
    top = 1.0
    while True:
        for factor in (2, 4, 10):
            if top * factor >= largest:
                return top * factor
        top *= 10


def durations(largest_s: float) -> float:
    """The top of an axis of seconds: twice what people count in."""
    fitting = (2 * step for step in STEPS_S if 2 * step >= (largest_s or 1.0))
    return next(fitting, 86_400.0 * 2 * -(-largest_s // (86_400 * 2)))


def _shapes(series: Series, top: float) -> Iterator[Shape]:
    """Lines with the ground below them filled, or bars; where nobody knows, there is nothing."""
    values = series.values
    width = WIDTH / max(1, len(values))
    places = [(n, value) for n, value in enumerate(values) if value is not None]
    if series.is_bars:
        gap = width * 0.15
        bars = (_bar(n * width + gap, width - 2 * gap, _y(v, top)) for n, v in places if v)
        yield Shape(look=f"{series.name} bar", path="".join(bars))
        return
    lines, areas = [], []
    for _, run in groupby(enumerate(places), lambda numbered: numbered[1][0] - numbered[0]):
        members = [place for _, place in run]
        points = [(round((n + 0.5) * width, 2), _y(value, top)) for n, value in members]
        if len(points) == 1:  # alone, as wide as its moment
            (x, y), half = points[0], width / 2
            points = [(round(x - half, 2), y), (round(x + half, 2), y)]
        line = "L".join(f"{x:g} {y:g}" for x, y in points)
        lines.append(f"M{line}")
        areas.append(f"M{points[0][0]:g} {HEIGHT}L{line}L{points[-1][0]:g} {HEIGHT}Z")
    yield Shape(look=f"{series.name} area", path="".join(areas))
    yield Shape(look=f"{series.name} curve", path="".join(lines))


def _bar(x: float, width: float, y: float) -> str:
    y = min(y, HEIGHT - 1.5)  # one of many is seen as well
    return f"M{x:.2f} {HEIGHT}V{y:g}h{width:.2f}V{HEIGHT}Z"


def _y(value: float, top: float) -> float:
    return round(HEIGHT - HEIGHT * min(value, top) / top, 2)


def _said(series: Sequence[Series], n: int, say: Say) -> str:
    if len(series) == 1:
        return say(series[0].values[n])
    return ", ".join(f"{s.name} {say(s.values[n])}" for s in series)


def _latest(series: Sequence[Series], say: Say) -> str:
    def last(values: Values) -> Values:
        return [next((value for value in reversed(values) if value is not None), None)]

    return _said([replace(s, values=last(s.values)) for s in series], 0, say)


def _text(title: str, series: Sequence[Series], say: Say) -> str:
    parts = []
    for s in series:
        known = [value for value in s.values if value is not None]
        said = f"at most {say(max(known))}, lately {say(known[-1])}" if known else "not known"
        parts.append(f"{s.name}: {said}" if len(series) > 1 else said)
    return f"{title}: {'; '.join(parts)}"
