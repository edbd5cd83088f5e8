"""What can become of a batch. Each is an answer, not an exception: the run decides what is next."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

from eventferry import logline
from eventferry.checkpoint import Checkpoints, Mark
from eventferry.errors import StoreUnavailable
from eventferry.event import RecordedEvent
from eventferry.fingerprint import fingerprint

_UNKNOWN: Mapping[str, str | None] = MappingProxyType({})

MAX_TEXT = 50_000
"""Characters of an error, and of a traceback, that are kept."""


@dataclass(frozen=True, slots=True)
class Applied:
    """Committed: the effect, and the checkpoints with it."""

    checkpoints: Checkpoints
    count: int
    """How many events of the batch were dealt with; fewer than all when its time was up."""
    parked: int = 0
    """How many of them were set aside."""


@dataclass(frozen=True, slots=True)
class Busy:
    """Another runner holds the checkpoint. That is not "no work"."""


@dataclass(frozen=True, slots=True)
class Moved:
    """The checkpoint is not where the batch begins: another runner was here."""


@dataclass(frozen=True, slots=True)
class Halted:
    """A person has paused the projection, or asked its runs to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Rolled back: the handler, or the target store, refused an event."""

    mark: Mark | None
    """The failing event; None: it is no single event's failure."""
    event_type: str | None
    entity_id: str | None
    index: int
    """The failing event's place in the batch."""
    alone: bool
    """Whether the event was tried alone; else its batch is tried again, one by one."""
    is_late: bool
    """Whether it took too long and has lost its connection: frozen, perhaps, or cut off."""
    error_type: str
    """The name of the error's class: what failures are alike by."""
    error: str
    traceback: str
    ties: Mapping[str, str | None]
    """The correlation and the trace of the event, where they are known."""
    trace: str
    """The traceback as it is logged."""

    @property
    def fingerprint(self) -> str:
        """What it has in common with failures that are alike."""
        return fingerprint(self.error, self.traceback)

    @property
    def summary(self) -> str:
        """The error as it is logged."""
        return logline.first_line(self.error)

    @property
    def fields(self) -> dict[str, Any]:
        """What a log line about it carries."""
        stream, position, event_id = self.mark or (None, None, None)
        return {
            **logline.fields(stream, position, event_id, self.event_type, self.entity_id),
            **self.ties,
            "error_type": self.error_type,
            "error": self.summary,
            "traceback": self.trace,
        }

    @property
    def event(self) -> str:
        """The failing event, as people read it."""
        if self.mark is None:
            return "no event of its own"
        name = f"{self.event_type or 'event'} {self.mark.event_id}"
        return f"{name} at {self.mark.stream}:{self.mark.position}"

    @classmethod
    def at(
        cls,
        event: RecordedEvent,
        error: BaseException,
        *,
        index: int = 0,
        alone: bool = True,
        is_late: bool = False,
    ) -> Self:
        """The failure of an event that has been read."""
        return cls.because(
            error,
            mark=Mark(event.stream, event.position, event.id),
            event_type=event.type,
            entity_id=event.entity_id,
            index=index,
            alone=alone,
            is_late=is_late,
            ties=logline.ties(event),
        )

    @classmethod
    def because(
        cls,
        error: BaseException,
        *,
        mark: Mark | None = None,
        event_type: str | None = None,
        entity_id: str | None = None,
        index: int = 0,
        alone: bool = True,
        is_late: bool = False,
        ties: Mapping[str, str | None] = _UNKNOWN,
    ) -> Self:
        """A failure as `projections status` shows it."""
        text = logline.text_of(error)
        name = type(error).__qualname__
        return cls(
            mark=mark,
            event_type=event_type,
            entity_id=entity_id,
            index=index,
            alone=alone,
            is_late=is_late,
            error_type=name,
            error=_kept(f"{name}: {text}" if text else name),
            traceback=_kept("".join(traceback.format_exception(error))),
            ties=ties,
            trace=logline.trace(error),
        )


def _kept(text: str) -> str:
    """The text as a column can keep it: no NUL, no half characters, and no book."""
    text = text.replace("\x00", "\ufffd").encode(errors="replace").decode()
    if len(text) <= MAX_TEXT:
        return text
    half = MAX_TEXT // 2
    return f"{text[:half]}\n… {len(text) - MAX_TEXT:,} characters …\n{text[-half:]}"


class Interrupted(StoreUnavailable):
    """An outage while the handler was at an event. No answer of the store's, so an exception."""


Outcome = Applied | Busy | Moved | Halted | Failed
