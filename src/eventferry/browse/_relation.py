"""What belongs to an event: what caused it, what it caused, and all that is correlated with it.

What caused it is found by its id, up to the first event. For the others there is no index, unless
the owner of a stream has made one (ADR 0016): they are looked for from the first event on, in a
bounded number of events of each store, by their metadata's text. From there one may look further.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg import sql as pgsql

from eventferry import _json, sql
from eventferry.browse._event import Found, Place, environments, event
from eventferry.browse._look import asked, looking, readable
from eventferry.browse._page import (
    LOOK,
    SLACK,
    SMALL_BYTES,
    EventSummary,
    look,
    moment_in,
    summary,
    summary_of,
)
from eventferry.errors import InvalidEvent
from eventferry.event import RecordedEvent
from eventferry.pools import Pools
from eventferry.store._native._async import observe
from eventferry.stream import require_stream_name

LOOK_BACK = 5_000
"""Events that are looked at before the first one that is known of a correlation."""
MOST = 200
"""Events that are found at a time, in each store."""
MAX_CHAIN = 32
"""Causes of causes that are looked up."""
_HALF = re.compile("[\ud800-\udfff]")
"""Half of a character: JSON can hold it, and no text of PostgreSQL's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relative:
    """An event of the group."""

    event: EventSummary
    places: tuple[Place, ...]
    """Where it was found."""
    correlation_id: str | None
    causation_id: str | None
    depth: int = 0
    """How many causes before it are known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Further:
    """From where on one may look for more in a store."""

    environment: str
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Related:
    """What was found that belongs to an event, itself included."""

    correlation_id: str
    """What the events have in common; where the event has none, its own id."""
    events: list[Relative]
    """Each after what caused it, with what it caused behind it: a tree, read from above."""
    missing_cause: str | None
    """The first cause that no store has; None: all causes are known."""
    looked_at: int
    """How many events were read to find them."""
    further: tuple[Further, ...]
    """Where not all was looked at; give it as `after` to look on. Empty: nothing is left."""


async def related(pools: Pools, found: Found, *, after: Mapping[str, int] | None = None) -> Related:
    """The events that are correlated with one, caused it, or were caused by it.

    Args:
        pools: Connections to the stores.
        found: The event.
        after: By environment, from which position on to look for more; None: from the beginning.

    Raises:
        StoreUnavailable, StoreError: a store is away, or refuses.
    """
    correlation = _tie(found.event, "correlation_id") or str(found.event.id)
    causes, missing = await _causes(pools, found)
    first = _uuid(correlation)
    root = next((c for c in causes if c.event.id == first), None)
    if root is None and first is not None:
        root = await event(pools, None, first)
    relatives = [_relative_of(f) for f in (*causes, *([root] if root else []))]
    looked_at, further = 0, []
    for environment in environments(pools):
        if after is not None and environment not in after:
            continue
        async with looking(pools.of(environment), pools.shown(environment)) as conn:
            search = _Search(
                conn=conn,
                environment=environment,
                correlation=correlation,
                id=str(found.event.id),
            )
            ended = await search.run(
                known=(*causes, *([root] if root else [])),
                is_first_known=root is not None,
                after=None if after is None else after[environment],
            )
        relatives += search.relatives
        looked_at += search.looked_at
        if ended is not None:
            further.append(Further(environment=environment, after=ended))
    return Related(
        correlation_id=correlation,
        events=tree(merged(relatives)),
        missing_cause=missing,
        looked_at=looked_at,
        further=tuple(further),
    )


async def _causes(pools: Pools, found: Found) -> tuple[list[Found], str | None]:
    """The event and its causes, the nearest first; the id of the one that is not there."""
    chain = [found]
    while len(chain) < MAX_CHAIN:
        cause = _tie(chain[-1].event, "causation_id")
        id_ = _uuid(cause)
        if cause is None or any(c.event.id == id_ for c in chain):
            return chain, None
        found_cause = await event(pools, None, id_) if id_ else None
        if found_cause is None:
            return chain, cause
        chain.append(found_cause)
    return chain, None


@dataclass(slots=True, kw_only=True)
class _Search:
    """What one store has of a group."""

    conn: AsyncConnection[Any]
    environment: str
    correlation: str
    id: str
    looked_at: int = 0
    relatives: list[Relative] = field(default_factory=list)

    async def run(
        self, known: Sequence[Found], *, is_first_known: bool, after: int | None
    ) -> int | None:
        """Looks; from where on there may be more, or None: nowhere."""
        streams = await readable(self.conn)
        scanned = tuple(name for name, has_index in streams.items() if not has_index)
        seen = await observe(self.conn, list(streams))
        if after is None and (indexed := tuple(n for n, has_index in streams.items() if has_index)):
            rows = await asked(self.conn, _correlated(indexed), self.correlation, MOST)
            self._keep(summary(row) for row in rows)
        if not scanned:
            return None
        start = await self._start(known, scanned, seen.position) if after is None else after
        if after is None and not is_first_known:
            await self._look(scanned, low=-1, high=start + 1, down=True, at_most=LOOK_BACK)
        return await self._look(scanned, low=start, high=seen.position + 1, at_most=LOOK)

    async def _start(self, known: Sequence[Found], streams: tuple[str, ...], upto: int) -> int:
        """Before the first event that is known here; or about when it was recorded elsewhere."""
        places = [place for found in known for place in found.places]
        here = [p.position for p in places if p.environment == self.environment]
        if here:
            return min(here) - 1
        moment = min(p.recorded_at for p in places)
        return await moment_in(self.conn, streams, moment - SLACK, upto)

    async def _look(
        self,
        streams: tuple[str, ...],
        *,
        low: int,
        high: int,
        at_most: int,
        down: bool = False,
    ) -> int | None:
        looked = await look(
            self.conn,
            streams,
            low=low,
            high=high,
            down=down,
            limit=MOST,
            at_most=at_most,
            patterns=[_pattern(self.correlation), _pattern(self.id)],
        )
        self.looked_at += looked.count
        self._keep(looked.events)
        more = looked.count >= at_most or len(looked.events) >= MOST
        return looked.last if more else None

    def _keep(self, events: Iterable[EventSummary]) -> None:
        for found in events:
            relative = _relative(found, self.environment)
            if self.correlation == relative.correlation_id or self.id == relative.causation_id:
                self.relatives.append(relative)


def merged(relatives: Iterable[Relative]) -> list[Relative]:
    """Each event once, with all places where it was found; in the order of time."""
    once: dict[UUID, Relative] = {}
    for relative in relatives:
        same = once.get(relative.event.id, relative)
        places = dict.fromkeys((*same.places, *relative.places))
        once[relative.event.id] = replace(same, places=tuple(places))
    return sorted(once.values(), key=lambda r: (r.event.occurred_at, r.event.id))


def tree(relatives: Sequence[Relative]) -> list[Relative]:
    """The events with what each of them caused behind it, one deeper; order is kept otherwise."""
    ids = {str(r.event.id) for r in relatives}
    effects: dict[str | None, list[Relative]] = {}
    for relative in relatives:
        cause = relative.causation_id
        known = cause in ids and cause != str(relative.event.id)
        effects.setdefault(cause if known else None, []).append(relative)
    made: list[Relative] = []
    left = [(relative, 0) for relative in reversed(effects.pop(None, []))]
    while left or effects:
        if not left:  # causes that go in a circle: no clock, but any client may write them
            left = [(relative, 0) for relative in reversed(effects.pop(next(iter(effects))))]
        relative, depth = left.pop()
        made.append(replace(relative, depth=depth))
        behind = effects.pop(str(relative.event.id), [])
        left += [(effect, depth + 1) for effect in reversed(behind)]
    return made


def _relative_of(found: Found) -> Relative:
    return replace(_relative(summary_of(found.event), ""), places=found.places)


def _relative(found: EventSummary, environment: str) -> Relative:
    ties = _ties(found.metadata_json)
    return Relative(
        event=found,
        places=(
            Place(
                environment=environment,
                stream=found.stream,
                position=found.position,
                recorded_at=found.recorded_at,
            ),
        ),
        correlation_id=ties.get("correlation_id"),
        causation_id=ties.get("causation_id"),
    )


def _tie(recorded: RecordedEvent, key: str) -> str | None:
    return _ties(recorded.metadata_json).get(key)


def _ties(metadata_json: str | None) -> dict[str, str]:
    """The texts in the metadata that a store can be asked for; any client may have written them."""
    try:
        metadata = _json.loads(metadata_json or "{}")
    except InvalidEvent:
        return {}
    return {
        key: value
        for key, value in metadata.items()
        if isinstance(value, str) and "\0" not in value and not _HALF.search(value)
    }


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None


def _pattern(text: str) -> str:
    """For LIKE: what JSON text has that holds this one.

    `->>` would decode the whole text, and so fail at what any client may have appended: a NUL in
    another value, as JSON writes it, is no text of PostgreSQL's.
    """
    written = _json.dumps(text, what="a correlation")[1:-1]
    for special in ("\\", "%", "_"):
        written = written.replace(special, f"\\{special}")
    return f"%{written}%"


@lru_cache(maxsize=1024)
def _correlated(streams: tuple[str, ...]) -> bytes:
    for stream in streams:
        require_stream_name(stream)
    size = pgsql.Literal(SMALL_BYTES)
    return (
        pgsql.SQL(" UNION ALL ")
        .join(
            pgsql.SQL("({})").format(
                sql.composed(
                    "correlated", label=pgsql.Literal(name), stream=sql.table(name), size=size
                )
            )
            for name in streams
        )
        .as_bytes(None)
    )
