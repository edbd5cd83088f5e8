"""Where events are, where they are to arrive, and how long that is waited for. No I/O here."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from eventferry.config import Config
from eventferry.errors import ProjectionError
from eventferry.event import RecordedEvent
from eventferry.store import Appended, AsyncAppended

SHORTEST_S = 0.01
"""The first pause between two looks; they grow."""
LONGEST_S = 0.1

Waitable = Appended | AsyncAppended | RecordedEvent
"""What may be waited for: what an append returned, and recorded events."""
Answer = Literal["handled", "parked"]
"""Of a projection that has got past events: whether it has set one of them aside."""

async_sleep, sleep = asyncio.sleep, time.sleep


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the events of one stream are, in the store that the projection reads."""

    stream: str
    position: int
    """Of the last one."""
    ids: Sequence[UUID]
    store: UUID
    """The store's identity."""
    incarnation: UUID
    """The stream's."""


@dataclass(slots=True)
class Patience:
    """How long it is waited for something."""

    timeout_s: float
    _until: float = 0.0
    _pause_s: float = SHORTEST_S

    def __post_init__(self) -> None:
        if not 0 <= self.timeout_s < math.inf:
            raise ValueError(
                f"timeout must be a number of seconds, 0 or more, not {self.timeout_s!r}"
            )
        self._until = time.monotonic() + self.timeout_s

    @property
    def left_s(self) -> float:
        """Seconds until it is over."""
        return max(0.0, self._until - time.monotonic())

    def again(self) -> None:
        """From now on, what is waited for is something else."""
        self._pause_s = SHORTEST_S

    def pause_s(self) -> float:
        """The pause until the next look; the last one comes when the time is up."""
        pause, self._pause_s = self._pause_s, min(LONGEST_S, self._pause_s * 1.5)
        return min(pause, self.left_s)


def ids_by_stream(appended: Waitable | Iterable[Waitable]) -> dict[str, list[UUID]]:
    """The events' ids, by the stream that they were appended to, or read from.

    Raises:
        TypeError: it is nothing that a store has returned.
    """
    found: dict[str, list[UUID]] = {}
    for one in _each(appended):
        if not isinstance(one, Waitable):
            raise TypeError(
                "expected what append returned, a RecordedEvent, or several of these, not "
                f"{type(one).__name__}: only these say in which stream an event is"
            )
        ids = [one.id] if isinstance(one, RecordedEvent) else list(one.ids)
        if ids:
            found.setdefault(one.stream, []).extend(ids)
    return {stream: list(dict.fromkeys(ids)) for stream, ids in found.items()}


def _each(appended: Waitable | Iterable[Waitable]) -> Iterator[object]:
    if isinstance(appended, Waitable) or not isinstance(appended, Iterable):
        yield appended
    else:
        yield from appended


def ferries(config: Config, stream: str) -> dict[str, str]:
    """The producing projections of the service that ferry the stream, with where to."""
    return {p.name: p.shared_stream or stream for p in config.producing if p.streams == (stream,)}


def to_arrive(
    config: Config,
    events: Mapping[str, list[UUID]],
    *,
    whose: str,
    environment: str,
    streams: Sequence[str],
) -> dict[str, list[UUID]]:
    """The ids, by the streams in which the projection gets the events to see.

    Args:
        config: Says which streams are ferried where.
        events: The ids, by the stream that the events were appended to.
        whose: What messages call the projection.
        environment: The store that it reads.
        streams: What it reads there.

    Raises:
        ProjectionError: it never gets to see them.
    """
    wanted: dict[str, list[UUID]] = {}
    for stream, ids in events.items():
        ferried = ferries(config, stream) if environment == "shared" else {}
        found = sorted(set(ferried.values()).intersection(streams)) or [
            s for s in (stream,) if s in streams
        ]
        if not found:
            how = ", ".join(f"{name} ferries it to {target}" for name, target in ferried.items())
            raise ProjectionError(
                f"{whose} never gets these events: it reads {', '.join(streams)} of the "
                f"{environment} store, and they are in {stream}{how and f' ({how})'}. Wait for a "
                "projection that reads them"
            )
        for target in found:
            wanted.setdefault(target, []).extend(ids)
    return wanted
