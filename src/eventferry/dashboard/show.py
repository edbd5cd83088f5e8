"""How values look on a page: numbers, times, ages, sizes. No I/O; the same words everywhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from urllib.parse import unquote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from markupsafe import Markup, escape

from eventferry.status import LAG_LIMIT

NOTHING = "–"


def number(value: float | None) -> str:
    """`1,234,567`; below ten, with a decimal: `3.4`."""
    if value is None:
        return NOTHING
    if value != int(value) and abs(value) < 10:
        return f"{value:.1f}"
    return f"{value:,.0f}"


def lag(events: int | None) -> str:
    """`1,234`, or `> 100,000`: it is counted up to there."""
    if events is not None and events > LAG_LIMIT:
        return f"> {LAG_LIMIT:,}"
    return number(events)


def seconds(value: float | None) -> str:
    """A duration, in the unit that says it best: `3 ms`, `2.5 s`, `4 min`, `3 h`, `2 days`."""
    if value is None:
        return NOTHING
    if value <= 0:
        return "0 s"
    if value < 0.9995:
        return f"{value * 1000:.3g} ms" if value >= 0.001 else f"{value * 1e6:.0f} µs"
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if value < limit:
            amount = value / unit
            return f"{amount:.1f} {name}" if amount < 10 else f"{amount:.0f} {name}"
    return f"{value / 86_400:.0f} days"


def size(value: float | None) -> str:
    """Bytes: `512 B`, `1.5 kB`, `20 MB`."""
    if value is None:
        return NOTHING
    power = min(4, int(math.log(value, 1000))) if value >= 1 else 0
    amount = value / 1000**power
    return f"{amount:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def zone(name: str | None) -> tzinfo:
    """The viewer's time zone, as the cookie of his browser calls it; UTC, if it is not known."""
    try:
        return ZoneInfo(unquote(name)) if name else UTC
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


def moment(in_zone: tzinfo) -> Callable[[datetime | None], Markup]:
    """Shows a moment in the viewer's zone, and in UTC on hover."""

    def shown(at: datetime | None) -> Markup:
        if at is None:
            return escape(NOTHING)
        local = utc = at.astimezone(UTC)
        with suppress(OverflowError):  # any client may append: the last hour that there is, say
            local = at.astimezone(in_zone)
        text = f"{local:%Y-%m-%d %H:%M:%S}" + (" UTC" if local.tzinfo is UTC else "")
        return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
            utc.isoformat(), f"{utc:%Y-%m-%d %H:%M:%S.%f}", text
        )

    return shown


def ago(at: datetime | None, now: datetime) -> Markup:
    """How long ago a moment was: `3 min ago`; the moment itself on hover."""
    if at is None:
        return escape(NOTHING)
    age = max(timedelta(0), now - at).total_seconds()
    text = "just now" if age < 1 else f"{seconds(age)} ago"
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        at.isoformat(), f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}", text
    )


def state(word: str) -> Markup:
    """A state as a badge: a sign and the word, so that colour is not needed to tell them apart."""
    return Markup('<span class="state {}"><span aria-hidden="true">{}</span> {}</span>').format(
        word.replace(" ", "-"), SIGNS.get(word, "○"), escape(word)
    )


SIGNS = {
    "running": "▶",
    "idle": "✓",
    "never run": "○",
    "retrying": "↻",
    "waiting": "…",
    "paused": "❚❚",
    "failed": "✕",
    "deleted": "⌫",
    "outdated": "↑",
    "is asked to end": "…",
    "gone": "✕",
}

FILTERS: dict[str, Callable[..., Any]] = {
    "number": number,
    "lag": lag,
    "seconds": seconds,
    "size": size,
    "state": state,
    "ago": ago,
}
