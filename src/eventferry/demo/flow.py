"""The picture of the flow: how many events are where, and how fast they go on.

users  ━━━▶  shared store  ━━━▶  mail
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, LiteralString

import psycopg
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from eventferry.demo.stage import COUNTS, Stage

LOOK_S = 0.2
RATE_S = 1.5
"""A rate is that of so many seconds."""


@dataclass(slots=True)
class Flow:
    """Looks at the tables in a thread, and draws what it has seen."""

    stage: Stage
    expected: int
    """Events in the end."""
    _seen: deque[tuple[float, tuple[int, ...]]] = field(
        default_factory=lambda: deque([(time.monotonic(), (0, 0, 0))], maxlen=64)
    )
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Flow:
        self._thread = threading.Thread(target=self._look, name="demo flow", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _look(self) -> None:
        # an outage, or the end of the demo: then the picture stands still
        with suppress(psycopg.OperationalError), ExitStack() as stack:
            counters = [
                _Counter(stack.enter_context(_connected(self.stage.url(database))), query)
                for database, query in COUNTS.items()
            ]
            last = False
            while not last:
                last = self._stopping.is_set()  # one more look, for the picture that stays
                begun = time.monotonic()
                counts = tuple(counter() for counter in counters)
                self._seen.append((time.monotonic(), counts))
                # counting must stay cheap, however many there are
                self._stopping.wait(max(LOOK_S, 10 * (time.monotonic() - begun)))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        seen = list(self._seen)  # the thread goes on adding
        now, counts = seen[-1]
        before, earlier = next(look for look in seen if look[0] >= now - RATE_S)
        elapsed = now - before
        rates = [
            (count - was) / elapsed if elapsed > 0 else 0.0
            for count, was in zip(counts, earlier, strict=True)
        ]
        appended, ferried, handled = counts
        picture = Table.grid(expand=True, padding=0)
        for ratio in (7, 2, 7, 2, 7):
            picture.add_column(ratio=ratio, justify="center", vertical="middle")
        picture.add_row(
            self._box("service users", "appended", appended, rates[0]),
            _way(appended - ferried, rates[1]),
            self._box("shared store", "ferried", ferried, rates[1]),
            _way(ferried - handled, rates[2]),
            self._box("service mail", "handled", handled, rates[2]),
        )
        yield Text()
        yield picture

    def _box(self, title: str, what: str, count: int, rate: float) -> RenderableType:
        content = Table.grid(expand=True)
        content.add_column(justify="center")
        content.add_row(Text.assemble(f"{what} ", (f"{count:,}", "bold")))
        content.add_row(ProgressBar(total=max(self.expected, count, 1), completed=count))
        content.add_row(Text(f"{rate:,.0f}/s", style="dim"))
        return Panel(content, title=title, border_style="cyan" if rate else "dim")


def _way(waiting: int, rate: float) -> RenderableType:
    """From one store to the next, and how many events are still to go."""
    arrow = ("━━▶", "bold cyan" if rate else "dim")
    behind = (f"\n{waiting:,}\nbehind", "yellow") if waiting > 0 else "\n\n"
    return Text.assemble(arrow, behind, justify="center")


@dataclass(frozen=True, slots=True)
class _Counter:
    connection: psycopg.Connection[Any]
    query: LiteralString

    def __call__(self) -> int:
        try:
            row = self.connection.execute(self.query).fetchone()
        except psycopg.errors.UndefinedTable:  # the first ferry creates the shared stream
            return 0
        return row[0] if row else 0


def _connected(url: str) -> psycopg.Connection[Any]:
    return psycopg.connect(url, autocommit=True)
