"""How a log line is written: as JSON, and for people.

Of an error both show what `logline.trace` does, whoever logs it: of its text but the first line.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from eventferry import logline

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

HANDLERS = "eventferry.projection."
"""The loggers of handlers; a projection's name follows."""


class Json(JsonFormatter):
    """A JSON object a line, in ASCII, so that no locale can spoil it."""

    def __init__(self, service: str) -> None:
        super().__init__(
            ["levelname", "name", "message"],
            rename_fields={"levelname": "level", "name": "logger", "exc_info": "traceback"},
            static_fields={"service": service},
        )

    def add_fields(
        self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]
    ) -> None:
        when = datetime.fromtimestamp(record.created, UTC)
        log_data["timestamp"] = when.isoformat(timespec="milliseconds")
        super().add_fields(log_data, record, message_dict)
        if record.exc_info and record.exc_info[0]:
            log_data["error_type"] = record.exc_info[0].__qualname__

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Leaves out what is not known."""
        return {key: value for key, value in log_data.items() if value is not None}

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802 - the base class's name
        return logline.trace(ei[1]) if ei[1] else ""


class Text(logging.Formatter):
    """Time, level, what is said and by whom; and below an error, where it was raised."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(who)s%(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        name = record.name
        if name.startswith(HANDLERS):
            name = name.removeprefix(HANDLERS)
        record.who = (
            "" if name.startswith("eventferry.") else f"{name}: "
        )  # ours name the projection
        text = super().format(record)
        trace = getattr(record, "traceback", None)
        return f"{text}\n{trace}" if trace and record.levelno >= logging.ERROR else text

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802 - the base class's name
        return logline.trace(ei[1]) if ei[1] else ""
