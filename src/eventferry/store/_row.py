"""Between events and rows: what an append sends, what a read selects. No I/O.

The order of `COLUMNS` is the order of an appended row; that of `SELECTED` is the order in which
`RecordedEvent` takes its fields.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple, overload
from uuid import UUID

from psycopg import AsyncCursor, Cursor
from psycopg import sql as pgsql
from psycopg.adapt import Transformer
from psycopg.types.string import ByteaBinaryLoader

from eventferry import _json, sql
from eventferry.errors import EventIdConflict, EventTooLarge, InvalidEvent
from eventferry.event import Event
from eventferry.stream import require_stream_name

MAX_DATA_BYTES = 16 * 1024 * 1024
MAX_METADATA_BYTES = 1024 * 1024
"""Less what the database adds; the stream tables check the same."""
PAGE_BYTES = 4 * 1024 * 1024
"""What fills a page, as the store keeps it: large JSON is compressed there."""
LARGE_BYTES = 32 * 1024 * 1024
"""What a stream may have of large JSON, all in all, for its pages to go unbounded."""
SAMPLE = 16
"""So many rows tell how large those of a page are."""
ADDED = frozenset({"correlation_id", "causation_id", "traceparent", "tracestate"})
"""The keys of metadata that an append adds where they are not given."""
MAX_VERSION = 2**31 - 1
FIRST_MOMENT = datetime(1, 1, 3, tzinfo=UTC)
LAST_MOMENT = datetime(9999, 12, 29, tzinfo=UTC)
"""What a client's clock can hold in any time zone; the stream tables check the same."""
_NO_KEYS: Mapping[str, Any] = MappingProxyType({})


class Row(NamedTuple):
    """An event as a statement takes it; None: the column's default."""

    id: UUID
    type: str
    source: str | None
    entity_id: str | None
    version: int | None
    data: str
    metadata: str
    occurred_at: datetime | None


COLUMNS = Row._fields
TYPES = ("uuid", "text", "text", "text", "int4", "json", "json", "timestamptz")
SELECTED = (
    "position",
    "id",
    "type",
    "source",
    "entity_id",
    "version",
    "data",
    "metadata",
    "occurred_at",
    "recorded_at",
)


def given_events(events: Event | Iterable[Event]) -> list[Event]:
    """What an append was given: one event or many.

    Raises:
        InvalidEvent: one of them is none.
    """
    found = [events] if isinstance(events, Event) else list(events)
    for event in found:  # what the types say, but users may not check
        if not isinstance(event, Event):  # type: ignore[redundant-expr,unused-ignore]
            raise InvalidEvent(f"append takes Event objects, not {type(event).__name__} {event!r}")
    return found


def rows(
    events: Sequence[Event],
    *,
    expected_version: int | None = None,
    added: Mapping[str, Any] = _NO_KEYS,
) -> list[Row]:
    """The rows of an append, checked and numbered.

    Args:
        events: Those that were given.
        expected_version: The one before the first event's; None: they get none.
        added: What their metadata says where they don't say it themselves.

    Raises:
        InvalidEvent: an event can't be kept; or two of them have the same id.
        ValueError: `expected_version` is given for none or for several entities.
    """
    versions = _versions(events, expected_version)
    made = [_row(event, version, added) for event, version in zip(events, versions, strict=True)]
    if len(made) > 1 and len({row.id for row in made}) != len(made):
        ((twice, _),) = Counter(row.id for row in made).most_common(1)
        raise InvalidEvent(f"two of the {len(made)} events of this append have the id {twice}")
    return made


def _versions(events: Sequence[Event], expected: int | None) -> Sequence[int | None]:
    if expected is None:
        return [None] * len(events)
    if type(expected) is not int or not 0 <= expected <= MAX_VERSION - len(events):
        raise ValueError(
            "expected_version must be 0 (the entity is new) or the entity's newest version, "
            f"not {expected!r}"
        )
    entities = {event.entity_id for event in events}
    if events and (len(entities) > 1 or None in entities):
        raise ValueError(
            "with expected_version, all events of an append must be of one entity, but these are "
            f"of {', '.join(sorted(repr(entity) for entity in entities))}. Append them one by one"
        )
    return range(expected + 1, expected + 1 + len(events))


def _row(event: Event, version: int | None, added: Mapping[str, Any]) -> Row:
    moment = event.occurred_at
    if moment is not None:
        _check_time(event, moment)
    return Row(
        event.id,
        event.type,
        event.source,
        event.entity_id,
        version,
        _text("data", event, event.data, MAX_DATA_BYTES),
        _text("metadata", event, _said(event.metadata, added), MAX_METADATA_BYTES),
        moment,
    )


def _said(own: Mapping[str, Any], added: Mapping[str, Any]) -> Mapping[str, Any]:
    if not added:
        return own
    said = {**added, **own}
    if "traceparent" in own and "tracestate" not in own:
        said.pop("tracestate", None)  # it belongs to the traceparent that it came with
    return said


def _text(name: str, event: Event, value: object, limit: int) -> str:
    text = _json.dumps(value, what=f"{name} of event {event.type!r}")
    # 4 bytes of header; and no character has more than 4 bytes, so most need no encoding to know
    room = limit - 4
    if len(text) * 4 > room and len(text.encode()) > room:
        raise EventTooLarge(
            f"{name} of event {event.type!r} {event.id} has {len(text.encode()):,} bytes, but at "
            f"most {room:,} are kept. Keep large things elsewhere, and their address in the event"
        )
    return text


def _check_time(event: Event, moment: datetime) -> None:
    if not FIRST_MOMENT <= moment <= LAST_MOMENT:
        raise InvalidEvent(
            f"occurred_at of event {event.type!r} {event.id} must be from {FIRST_MOMENT} "
            f"to {LAST_MOMENT}, not {moment}"
        )


def difference(
    row: Row, kept: Row, stream: str, added: Mapping[str, Any] = _NO_KEYS
) -> EventIdConflict | None:
    """What tells the appended event from the one that is kept under its id, if anything does.

    An append that is repeated is so in another trace: what was added is not compared.
    """
    said = _json.loads(row.metadata)
    ignored = {key for key in ADDED if key not in said or added.get(key) == said[key]}
    differing = [
        name
        for name, ours, theirs in zip(COLUMNS, row, kept, strict=True)
        if not _same(name, ours, theirs, ignored)
    ]
    if not differing:
        return None
    return EventIdConflict(
        f"stream {stream!r} has another event under the id {row.id}: its "
        f"{', '.join(differing)} differ{'s' if len(differing) == 1 else ''}. "
        "The same id must always mean the same event: give a new event a new id",
        stream=stream,
        event_id=row.id,
    )


def _same(name: str, ours: object, theirs: object, ignored: Set[str]) -> bool:
    if name == "data":
        return _json.same(str(ours), str(theirs))
    if name == "metadata":
        return _json.same(str(ours), str(theirs), but=ignored)
    if ours is None and name in ("source", "occurred_at"):
        return True  # left to the database then, and so now
    return ours == theirs


def given(appended: Sequence[Row]) -> tuple[str, ...]:
    """The columns that at least one of the rows has a value for."""
    first, *others = appended
    return tuple(
        [
            name
            for place, name in enumerate(COLUMNS)
            if first[place] is not None
            or (others and any(row[place] is not None for row in others))
        ]
    )


def places(columns: Sequence[str]) -> list[int]:
    """Where the columns are in a row."""
    return [COLUMNS.index(name) for name in columns]


def types(columns: Sequence[str]) -> list[str]:
    """The PostgreSQL types of the columns."""
    return [TYPES[place] for place in places(columns)]


def copy_types(columns: Sequence[str]) -> list[str]:
    """As what a binary COPY writes the columns: our JSON is text already, and json is sent so."""
    return ["text" if kind == "json" else kind for kind in types(columns)]


@lru_cache(maxsize=4096)
def statement(name: str, stream: str, columns: tuple[str, ...]) -> bytes:
    """One of the append statements, for these columns of this stream.

    Raises:
        InvalidStreamName: no stream can be called that. (Of a name that is too long, PostgreSQL
            would find the stream of its first 63 bytes.)
    """
    require_stream_name(stream)
    return sql.composed(
        name,
        stream=sql.table(stream),
        columns=pgsql.SQL(", ").join(map(pgsql.Identifier, columns)),
        values=pgsql.SQL(", ").join(
            pgsql.SQL("%s::{}").format(pgsql.SQL(kind)) for kind in types(columns)
        ),
    ).as_bytes(None)


def require_whole(**numbers: object) -> None:
    """Refuses what is neither a whole number nor None, where that means something.

    Raises:
        ValueError: names the argument.
    """
    for name, number in numbers.items():
        if type(number) is not int and (number is not None or name == "after"):
            raise ValueError(f"{name} must be a whole number, not {number!r}")


def event_types(types: Iterable[str]) -> list[str]:
    """The types as a list.

    Raises:
        ValueError: one text would be taken for its letters; or one of them is no text.
    """
    if isinstance(types, str):
        raise ValueError(f"types must be a list of event types, not text: [{types!r}]")
    wanted = list(types)
    for type_ in wanted:
        if not isinstance(type_, str):
            raise ValueError(f"types must be texts, not {type_!r}")
    return wanted


@lru_cache(maxsize=4096)
def select_entity(stream: str) -> bytes:
    """All events of an entity, in order.

    Raises:
        InvalidStreamName: no stream can be called that.
    """
    return _select("select_entity", stream).as_bytes(None)


@lru_cache(maxsize=4096)
def select_events(stream: str) -> bytes:
    """Events by their ids, in no order.

    Raises:
        InvalidStreamName: no stream can be called that.
    """
    return _select("select_events", stream).as_bytes(None)


@lru_cache(maxsize=4096)
def select_from(streams: tuple[str, ...], *, bounded: bool) -> bytes:
    """A page of the streams in the store's order, each from an event of its own on.

    Its parameters are those of the .sql file, with a place for each stream. To be bounded by bytes
    as well takes twice as long.

    Raises:
        InvalidStreamName: no stream can be called that.
    """
    places = [pgsql.Literal(number) for number, _ in enumerate(streams, 1)]
    branches = [
        _select(
            "select_from",
            stream,
            bytes=_BYTES_BEHIND.format(place=place) if bounded else _NOTHING,
            place=place,
        )
        for place, stream in zip(places, streams, strict=True)
    ]
    events = branches[0]
    if len(branches) > 1:
        events = pgsql.SQL(" UNION ALL ").join(pgsql.SQL("({})").format(b) for b in branches)
        events += pgsql.SQL(" ORDER BY position LIMIT $3::bigint")
    return _page(events, _UP) if bounded else events.as_bytes(None)


@lru_cache(maxsize=4096)
def select_between(stream: str, *, by_type: bool, down: bool, bounded: bool) -> bytes:
    """A page of one stream between two positions, of all or some types, in either direction.

    To be bounded by bytes as well takes a fifth longer.

    Raises:
        InvalidStreamName: no stream can be called that.
    """
    direction = _DOWN if down else _UP
    events = _select(
        "select_between",
        stream,
        bytes=_BYTES if bounded else _NOTHING,
        types=pgsql.SQL("AND type = ANY (%s)") if by_type else _NOTHING,
        direction=direction,
    )
    return _page(events, direction) if bounded else events.as_bytes(None)


def _select(name: str, stream: str, **parts: pgsql.Composable) -> pgsql.Composed:
    require_stream_name(stream)
    return sql.composed(
        name, label=pgsql.Literal(stream), columns=_COLUMNS, stream=sql.table(stream), **parts
    )


def _page(events: pgsql.Composed, direction: pgsql.SQL) -> bytes:
    return sql.composed(
        "select_page",
        events=events,
        columns=_COLUMNS,
        direction=direction,
        size=pgsql.Literal(PAGE_BYTES),
    ).as_bytes(None)


_COLUMNS = pgsql.SQL(", ").join(map(pgsql.Identifier, SELECTED))
_BYTES = pgsql.SQL(", pg_column_size(data) + pg_column_size(metadata) AS bytes")
_BYTES_BEHIND = pgsql.SQL(
    ", CASE WHEN position = ($1::bigint[])[{place}] THEN 0"
    " ELSE pg_column_size(data) + pg_column_size(metadata) END AS bytes"
)
_UP, _DOWN, _NOTHING = pgsql.SQL("ASC"), pgsql.SQL("DESC"), pgsql.SQL("")


class Rows(Sequence[tuple[Any, ...]]):
    """What a cursor has read; each row is decoded when it is looked at."""

    __slots__ = ("_count", "_load", "_value")

    def __init__(self, cursor: Cursor[Any] | AsyncCursor[Any]) -> None:
        result = cursor.pgresult
        assert result is not None
        cursor.adapters.register_loader("timestamptz", ByteaBinaryLoader)  # the event decodes it
        transformer = Transformer(cursor)
        transformer.set_pgresult(result)
        self._count, self._load = result.ntuples, transformer.load_row
        self._value: Callable[[int, int], bytes] = result.get_value  # type: ignore[assignment]

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> tuple[Any, ...]: ...
    @overload
    def __getitem__(self, place: slice) -> list[tuple[Any, ...]]: ...
    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return [self._load(number, tuple) for number in range(self._count)[place]]
        if not 0 <= place < self._count:
            place = range(self._count)[place]  # from the end, or none
        return self._load(place, tuple)

    def bytes(self) -> int:
        """Of their JSON, about: as some of the rows have it."""
        places = range(0, self._count, max(1, self._count // SAMPLE))
        sampled = sum(len(self._value(n, _DATA)) + len(self._value(n, _METADATA)) for n in places)
        return sampled * self._count // max(1, len(places))

    def stream(self, place: int) -> str:
        """The stream of the row in a place."""
        return str(self._value(place, 0), "ascii")

    def position(self, place: int) -> int:
        """The position of the row in a place, as the database writes it."""
        return int.from_bytes(self._value(place, 1), "big")


def is_full(page: Sequence[tuple[Any, ...]], limit: int, *, bounded: bool) -> bool:
    """Whether there may be more events behind the rows of a page: the limit ended it, or its bytes.

    They begin with the stream, then come the columns of `SELECTED`.
    """
    if len(page) >= limit or not bounded:
        return len(page) >= limit
    # no character takes more than 4 bytes, no text more than 4 beside them
    at_most = (4 * (len(row[_DATA]) + len(row[_METADATA])) + 8 for row in page)
    return sum(at_most) >= PAGE_BYTES


_DATA, _METADATA = SELECTED.index("data") + 1, SELECTED.index("metadata") + 1
