"""What a command has to say, and how it is said: to people, to pipes, to programs.

On a terminal: tables and colour. In a pipe: the same words, tables with tabs between the columns.
With `--json`: one envelope, on standard output, for every command and for every failure.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TextIO

FAILED = 1
WRONG = 2
"""Wrong usage, configuration or connection."""
FOLDED_MIN = 24
"""The narrowest column whose cells take several lines."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that went wrong, in the envelope's `errors`."""

    type: str
    """The name of the exception, or of what is the matter."""
    message: str


class Screen:
    """Where people read."""

    def __init__(self, file: TextIO) -> None:
        self.file = file
        self.is_terminal = file.isatty()

    def line(self, text: str = "", style: str | None = None) -> None:
        """A line of text, as it is."""
        if not self.is_terminal or style is None or "NO_COLOR" in os.environ:
            print(_printable(text, self.file), file=self.file)
            return
        from rich.console import Console
        from rich.text import Text

        Console(file=self.file).print(Text(text, style=style), soft_wrap=True)

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[object]],
        *,
        expendable: Sequence[str] = (),
        folded: str | None = None,
    ) -> None:
        """A table; in a pipe, tabs between the columns and no line broken.

        On a terminal that is too narrow for it, the expendable columns are left out, one after the
        other, then the folded one's cells take several lines; if that is not enough, a row becomes
        a block of lines.
        """
        texts = [["" if value is None else str(value) for value in row] for row in rows]
        if not self.is_terminal:
            for row in [list(columns), *texts]:
                self.line("\t".join(" ".join(cell.split()) for cell in row))
            return
        from rich import box
        from rich.cells import cell_len
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        console = Console(file=self.file)
        anyhow = console.options.update(width=10_000)
        for left_out in range(len(expendable) + 1):
            table = Table(box=box.SIMPLE, pad_edge=False, header_style="bold")
            kept = [n for n, c in enumerate(columns) if c not in expendable[:left_out]]
            for n in kept:
                table.add_column(columns[n], no_wrap=True)
            for row in texts:
                table.add_row(*(Text(row[n], style=STYLES.get(row[n], "")) for n in kept))
            excess = console.measure(table, options=anyhow).maximum - console.width
            if excess > 0 and folded is not None and left_out == len(expendable):
                n = columns.index(folded)
                width = max((cell_len(row[n]) for row in texts), default=0) - excess
                if width >= FOLDED_MIN:
                    cells = table.columns[kept.index(n)]
                    cells.no_wrap, cells.width, excess = False, width, 0
            if excess <= 0:
                console.print(table)
                return
        width = max(map(len, columns))
        for row in texts:
            self.line()
            for column, cell in zip(columns, row, strict=True):
                self.line(f"{column:<{width}}  {cell}", STYLES.get(cell))
        self.line()


STYLES = {
    "failed": "bold red",
    "running": "green",
    "retrying": "yellow",
    "waiting": "yellow",
    "paused": "yellow",
}


def _printable(text: str, file: TextIO) -> str:
    """The text with what the file's encoding lacks replaced: a message must come through."""
    encoding = file.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def in_one_line(text: object) -> str:
    """The text without its line breaks: an error's text may have any."""
    return " ".join(str(text).split()) or "(no message)"


def nothing(_screen: Screen) -> None:
    """What a command shows that has said everything already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a command has found or done."""

    data: Any = None
    """For the envelope: plain values, dataclasses, datetimes, UUIDs."""
    show: Callable[[Screen], None] = nothing
    """The same, for people."""
    problems: tuple[Problem, ...] = ()
    code: int = 0
    is_printed: bool = False
    """Whether the command has written its output itself, the envelope too."""


def envelope(command: str, report: Report) -> str:
    """The one shape of everything that `--json` writes."""
    return dumped(
        {
            "ok": report.code == 0,
            "command": command,
            "data": report.data,
            "errors": problems(report.problems),
        }
    )


def problems(found: Iterable[Problem]) -> list[dict[str, str]]:
    """The envelope's `errors`."""
    return [{"type": problem.type, "message": problem.message} for problem in found]


def dumped(value: object) -> str:
    """The value as a line of JSON."""
    return json.dumps(value, ensure_ascii=not _is_utf8(sys.stdout), default=_plain)


def _is_utf8(file: TextIO) -> bool:
    return (file.encoding or "").lower().replace("-", "") == "utf8"


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)
