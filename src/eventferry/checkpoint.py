"""Where a projection is, and whether the store that it reads still is the one it came from.

Pure: what the rows of `eventferry.checkpoints` mean. A checkpoint moves only to the position of
an event that was read, never to the horizon: positions that others have drawn need not survive a
crash, and may come again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from uuid import UUID

from eventferry.errors import HistoryMismatch
from eventferry.event import RecordedEvent
from eventferry.store import Horizon


class Mark(NamedTuple):
    """An event's place: enough to move a checkpoint to it."""

    stream: str
    position: int
    event_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """How far a projection is in one stream."""

    stream: str
    store: UUID
    """The identity of the store read from."""
    incarnation: UUID
    """Of the stream."""
    position: int
    """Of the last event dealt with; 0: none yet."""
    event_id: UUID | None
    """That event's id."""
    replay_until: int = 0
    """Events up to this position were there before the projection began."""
    held: bool = field(default=False, compare=False)
    """Whether the projection is paused, or deleted."""
    stops: int = field(default=0, compare=False)
    """How often its runs had been asked to end when this was read."""
    deaths: int = field(default=0, compare=False)
    """Batches from here that had ended without a word, with their process."""


Checkpoints = tuple[Checkpoint, ...]
"""One a stream, in the order of the projection's streams."""


def mark(event: RecordedEvent) -> Mark:
    """The event's place."""
    return Mark(event.stream, event.position, event.id)


def moved(checkpoints: Checkpoints, marks: Iterable[Mark]) -> Checkpoints:
    """The checkpoints after the events at the marks, which are in order."""
    last: Mapping[str, Mark] = {mark.stream: mark for mark in marks}
    return tuple(
        replace(c, position=last[c.stream].position, event_id=last[c.stream].event_id)
        if c.stream in last
        else c
        for c in checkpoints
    )


def require_same_store(
    checkpoints: Checkpoints, horizon: Horizon, projection: str, store: str
) -> None:
    """Refuses to read on in another store, or in a re-created stream; `store`: for messages.

    Raises:
        HistoryMismatch: it is not the one that the checkpoint came from.
    """
    for checkpoint, incarnation in zip(checkpoints, horizon.incarnations, strict=True):
        has_read = (
            f"projection {projection!r} has read {checkpoint.stream!r} up to position "
            f"{checkpoint.position}"
        )
        if checkpoint.store != horizon.store:
            raise HistoryMismatch(
                f"{has_read} of store {checkpoint.store}, but {store} is store {horizon.store}. "
                "Nothing was handled. Is the URL wrong? Has another service the same name? Correct "
                f"that, then `eventferry projections retry {projection}`. If this store has taken "
                f"the other's place: `eventferry projections reset {projection} --to last-common` "
                "goes on behind the last event that both have; if there is none, from the start"
            )
        if checkpoint.incarnation != incarnation:
            raise HistoryMismatch(
                f"{has_read}, but the stream has been dropped and created again since (it was "
                f"{checkpoint.incarnation}, and is {incarnation} in {store}). Nothing was handled. "
                f"To read the new one from its start: `eventferry projections reset {projection} "
                "--to start`; only what comes from now on: `--to now`"
            )


def require_same_events(
    checkpoints: Checkpoints, marks: Sequence[Mark], *, complete: bool, projection: str
) -> int:
    """Checks what was read from the checkpoints' own positions on: their events come first.

    Args:
        checkpoints: Where the reading began.
        marks: What was read, in order, the checkpoints' own events among them.
        complete: Whether this is all that the streams have up to the horizon.
        projection: For messages.

    Returns:
        How many of the marks are the checkpoints' own events; the rest is work.

    Raises:
        HistoryMismatch: a checkpoint's event is not where it was.
    """
    expected = {c.stream: c for c in checkpoints if c.position}
    own = 0
    for mark in marks:
        checkpoint = expected.get(mark.stream)
        if checkpoint is None:
            continue
        if (mark.position, mark.event_id) != (checkpoint.position, checkpoint.event_id):
            raise _lost(checkpoint, mark, projection)
        del expected[mark.stream]
        own += 1
    if complete and expected:
        raise _lost(next(iter(expected.values())), None, projection)
    return own


def _lost(checkpoint: Checkpoint, found: Mark | None, projection: str) -> HistoryMismatch:
    there = (
        "the stream ends before it"
        if found is None
        else f"event {found.event_id} at position {found.position} is what stands there now"
    )
    return HistoryMismatch(
        f"projection {projection!r} has read {checkpoint.stream!r} up to event "
        f"{checkpoint.event_id} at position {checkpoint.position}, but {there}: the store has lost "
        "or changed its history (restored from a backup? a standby promoted that lacked commits? a "
        "crash with fsync off?). Nothing was handled. If a store that has the event can be put "
        f"back, do, then `eventferry projections retry {projection}`. To go on with this one: "
        f"`eventferry projections reset {projection} --to last-common`, back to the last event "
        "that is still there"
    )
