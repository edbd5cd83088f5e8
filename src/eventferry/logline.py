"""What a log line carries beside its words: by what it is found again, and what has gone wrong.

Given to the logger as `extra=`, so that any formatter can write it. Logs go further than the
databases: no line holds data or metadata, but for the ids in the metadata that tie events together.
An error's text is not ours, and may quote anything: PostgreSQL and pydantic show values from its
second line on, so that only the first one is logged. All of it is kept in the local store.
"""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Iterator, MutableMapping, Sequence
from textwrap import indent
from typing import Any
from uuid import UUID

from eventferry.errors import InvalidEvent
from eventferry.event import RecordedEvent

MAX_TRACE = 8_000
"""Characters of a traceback that are logged: container runtimes break lines of 16 kB."""
MAX_CHAIN = 20
"""Errors that an error was made of."""

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}.*")


def fields(
    stream: str | None,
    position: int | None,
    event_id: UUID | None,
    event_type: str | None,
    entity_id: str | None = None,
) -> dict[str, Any]:
    """What a line about an event carries, as far as it is known; None: it is not."""
    return {
        "stream": stream,
        "position": position,
        "event_id": event_id and str(event_id),
        "event_type": event_type,
        "entity_id": entity_id,
    }


def of_event(event: RecordedEvent) -> dict[str, Any]:
    """The same of an event that has been read: its correlation and its trace too."""
    known = fields(event.stream, event.position, event.id, event.type, event.entity_id)
    return {**known, **ties(event)}


def of_events(events: Sequence[RecordedEvent]) -> dict[str, Any]:
    """What a line about all of these events carries: what they have in common."""
    if len(events) == 1:
        return of_event(events[0])
    streams = {event.stream for event in events}
    return {"stream": streams.pop()} if len(streams) == 1 else {}


def ties(event: RecordedEvent) -> dict[str, str | None]:
    """The correlation and the trace that the event belongs to.

    The first event of a correlation is the one that the others are named after.
    """
    try:
        metadata = event.metadata
    except InvalidEvent:  # any client may append; logging must not be what fails
        return {}
    correlation, parent = metadata.get("correlation_id"), metadata.get("traceparent")
    traced = _TRACEPARENT.fullmatch(parent) if isinstance(parent, str) else None
    return {
        "correlation_id": correlation if isinstance(correlation, str) else str(event.id),
        "trace_id": traced and traced[1],
    }


def text_of(error: BaseException) -> str:
    """All of an error's text."""
    try:
        return str(error)
    except Exception as another:  # a user's class, and none of our business
        return f"(its text can't be had: {type(another).__qualname__})"


def first_line(text: object) -> str:
    """What of an error's text is logged."""
    return str(text).strip().partition("\n")[0].rstrip()


def trace(error: BaseException) -> str:
    """Where an error was raised and what it was made of, as Python shows it: the last one last."""
    text = "".join(_trace(error, set()))
    half = MAX_TRACE // 2
    return text if len(text) <= MAX_TRACE else f"{text[:half]}\n…\n{text[-half:]}"


def _trace(error: BaseException, seen: set[int]) -> Iterator[str]:
    seen.add(id(error))
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and id(before) not in seen and len(seen) < MAX_CHAIN:
        yield from _trace(before, seen)
        yield "\nand then:\n\n"
    yield from traceback.format_tb(error.__traceback__)
    text = first_line(text_of(error))
    yield f"{type(error).__qualname__}: {text}\n"
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions[:MAX_CHAIN]:
            yield indent("".join(_trace(part, seen)), "  | ")


class HandlerLogger(logging.LoggerAdapter[logging.Logger]):
    """A handler's logger: its lines carry what is being handled."""

    def __init__(self, projection: str, attempt: int, events: Sequence[RecordedEvent]) -> None:
        super().__init__(logging.getLogger(f"eventferry.projection.{projection}"))
        self._about = {"projection": projection, "attempt": attempt}
        self._events = events

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Adds the fields; what the caller gives wins."""
        given = kwargs.get("extra") or {}
        kwargs["extra"] = {**self._about, **of_events(self._events), **given}
        return msg, kwargs
