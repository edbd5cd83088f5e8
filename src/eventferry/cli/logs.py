"""`--log-level`, `--log-file`: the logs of the commands that work for long.

On a terminal lines for people, elsewhere a JSON object a line, for whatever collects what a
container writes, or a program under a supervisor. What it carries comes with its record (logline).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Annotated

import typer

from eventferry.cli.failure import leaves
from eventferry.cli.report import Screen

log = logging.getLogger("eventferry.cli")

FILE_OPTION = "--log-file"


class LogLevel(StrEnum):
    """From which level on what happens is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


LogLevelOption = Annotated[LogLevel, typer.Option("--log-level", help="What is logged.")]
LogFileOption = Annotated[
    Path | None,
    typer.Option(
        FILE_OPTION,
        metavar="PATH",
        help="Log to this file instead of standard error.",
        show_default=False,
    ),
]


def options(level: LogLevel, file: Path | None) -> list[str]:
    """The options of a command that logs alike."""
    return ["--log-level", level.value, *((FILE_OPTION, str(file)) if file else ())]


@contextmanager
def kept(level: LogLevel, file: Path | None, *, service: str) -> Iterator[None]:
    """Logs as `begin` does, and what ends the command as well: whoever has no more than the log
    finds there why nothing follows. On a terminal the command's own message is enough.

    Raises:
        typer.BadParameter: the file can't be written.
    """
    begin(level, file, service=service)
    try:
        yield
    except typer.BadParameter:  # wrong usage is nobody's log
        raise
    except Exception as error:
        if file is not None or not sys.stderr.isatty():
            _tell(error)
        raise


def _tell(error: Exception) -> None:
    from eventferry.connection import is_outage
    from eventferry.errors import EventFerryError
    from eventferry.logline import first_line, text_of

    for leaf in leaves(error):
        is_known = isinstance(leaf, EventFerryError) or is_outage(leaf)
        name, text = type(leaf).__qualname__, first_line(text_of(leaf))
        trace = None if is_known else leaf
        log.error("ended by %s: %s", name, text, exc_info=trace, extra={"error_type": name})


def begin(level: LogLevel, file: Path | None, *, service: str) -> None:
    """Logs from now on, to the file or else to standard error.

    Where the service's code has set up logging while its handlers were imported, that stays as it
    is; a file is written all the same.

    Raises:
        typer.BadParameter: the file can't be written.
    """
    root = logging.getLogger()
    if root.handlers and file is None:
        return
    root.addHandler(_to_stderr(service) if file is None else _to_file(file, service))
    root.setLevel(level.value.upper())
    logging.captureWarnings(True)
    if level is not LogLevel.DEBUG:  # it complains of each connection; we tell of an outage, once
        logging.getLogger("psycopg").setLevel(logging.CRITICAL)


def _to_stderr(service: str) -> logging.Handler:
    from eventferry.cli.logformat import Json, Text

    on_terminal = sys.stderr.isatty()
    handler = _Terminal() if on_terminal else logging.StreamHandler(sys.stderr)
    handler.setFormatter(Text() if on_terminal else Json(service))
    return handler


def _to_file(path: Path, service: str) -> logging.Handler:
    from eventferry.cli.logformat import Json

    try:
        handler = _File(path)
    except OSError as error:
        raise typer.BadParameter(
            f"can't write to {path}: {error.strerror}. Name a file in a folder that exists, which "
            "this user may write to",
            param_hint=FILE_OPTION,
        ) from None
    handler.setFormatter(Json(service))
    return handler


class _Terminal(logging.Handler):
    """Where people read: what is wrong stands out."""

    def emit(self, record: logging.LogRecord) -> None:
        style = None
        if record.levelno >= logging.WARNING:
            style = "yellow" if record.levelno < logging.ERROR else "bold red"
        try:
            Screen(sys.stderr).line(self.format(record), style)
        except Exception:
            self.handleError(record)


class _File(WatchedFileHandler):
    """A file that may be rotated, and that several processes may append to, a write a line.

    What it does not take goes to standard error: a full disk must neither fail an event nor hide
    what happens.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8")
        self._otherwise = logging.StreamHandler(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)  # opens the file anew where it has been moved away, and may raise
        except OSError:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the base class's name
        self._otherwise.setFormatter(self.formatter)
        self._otherwise.emit(record)
