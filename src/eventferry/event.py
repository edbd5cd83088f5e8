"""Events: what a service says happened, and what a store says it keeps.

`Event` is what one appends, `RecordedEvent` what a store returns. Both are immutable. Event
mappers (`EventMapper`) give names to what is inside an event's data.

The JSON of a recorded event is decoded when it is first touched, and not before: most readers
look at a type or at two keys, and a ferry at nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import repeat
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast, overload
from uuid import UUID

from pydantic import TypeAdapter

from eventferry import _json
from eventferry._uuid import uuid7
from eventferry.errors import InvalidEvent, MissingData

T = TypeVar("T")

MAX_NAME_LENGTH = 255
"""Characters in an event's type, source and entity id; the stream tables check the same."""

POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, as its service says it.

    Examples:
        >>> registered = Event("UserRegistered", {"email": "ada@example.org"}, entity_id="42")
        >>> registered.data["email"]
        'ada@example.org'

    Raises:
        InvalidEvent: a field is not what it should be. Whether `data` and `metadata` are JSON
            is checked when the event is appended.
    """

    type: str
    """What happened, in the past tense: `UserRegistered`. 1 to 255 characters."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """What there is to say about it: a JSON object, of at most 16 MiB."""
    _: KW_ONLY
    entity_id: str | None = None
    """The thing that it happened to; the order of an entity's events is kept everywhere. 1 to 255
    characters."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """About the event rather than the fact: a JSON object, of at most 1 MiB. Reserved keys:
    `correlation_id`, `causation_id`, `traceparent`, `tracestate`; an append adds them where they
    are known, and not given."""
    id: UUID = field(default_factory=uuid7)
    """Names the event for good, in every store that it gets to; a new UUIDv7 by default."""
    occurred_at: datetime | None = None
    """When it happened, with a time zone; None: the moment of the append, by the store's clock."""
    source: str | None = None
    """The service that it happened in; None: the one that the store belongs to."""

    def __post_init__(self) -> None:
        require_name("type", self.type)
        if self.entity_id is not None:
            require_name("entity_id", self.entity_id)
        if self.source is not None:
            require_name("source", self.source)
        if not isinstance(self.data, Mapping):
            self._refuse_object("data", self.data)
        if not isinstance(self.metadata, Mapping):
            self._refuse_object("metadata", self.metadata)
        if not isinstance(self.id, UUID):
            raise InvalidEvent(f"id must be a uuid.UUID, not {type(self.id).__name__} {self.id!r}")
        if self.occurred_at is not None:
            self._require_moment(self.occurred_at)

    def _refuse_object(self, name: str, value: object) -> NoReturn:
        raise InvalidEvent(
            f"{name} of event {self.type!r} must be a mapping (a JSON object), "
            f"not {type(value).__name__}"
        )

    def _require_moment(self, value: object) -> None:
        if not isinstance(value, datetime):
            raise InvalidEvent(
                f"occurred_at of event {self.type!r} must be a datetime, "
                f"not {type(value).__name__} {value!r}"
            )
        if value.utcoffset() is None:
            raise InvalidEvent(
                f"occurred_at of event {self.type!r} has no time zone: {value!r}. "
                "Give an aware datetime, such as datetime.now(UTC)"
            )

    def caused_by(self, cause: RecordedEvent) -> Event:
        """The same event, correlated with `cause`; what its metadata says already stays.

        `correlation_id` becomes that of the cause, or else the cause's id; `causation_id` the
        cause's id.
        """
        return replace(self, metadata={**chained(cause), **self.metadata})


def chained(cause: RecordedEvent) -> dict[str, Any]:
    """What the metadata of an event says that `cause` has led to."""
    own = str(cause.id)
    try:
        correlation = cause.metadata.get("correlation_id")
    except InvalidEvent:  # any client may append; its event can be a cause all the same
        correlation = None
    return {
        "correlation_id": correlation if isinstance(correlation, str) else own,
        "causation_id": own,
    }


def require_name(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise InvalidEvent(f"{name} must be text, not {type(value).__name__} {value!r}")
    if not 1 <= len(value) <= MAX_NAME_LENGTH:
        raise InvalidEvent(
            f"{name} must have 1 to {MAX_NAME_LENGTH} characters, not {len(value)}: {value[:40]!r}"
        )
    if "\x00" in value or not (value.isascii() or _is_encodable(value)):
        raise InvalidEvent(
            f"{name} holds a character that PostgreSQL can't keep "
            f"(NUL, or half of a surrogate pair): {value[:40]!r}"
        )


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class RecordedEvent:
    """An event as a store keeps it. Made by reading, never by hand.

    A thin view of a row of a page: that is decoded when it is first looked at, and its JSON when
    that is.
    """

    __slots__ = ("_data", "_metadata", "_place", "_row")
    _row: tuple[Any, ...]
    # (stream, position, id, type, source, entity_id, version, data, metadata,
    #  occurred_at, recorded_at): the order of the SELECT list in store/_row.py
    _data: dict[str, Any]
    _metadata: dict[str, Any]

    def __init__(self, place: tuple[Sequence[tuple[Any, ...]], int]) -> None:
        self._place = place
        """The rows of a page, and which of them it is."""

    if not TYPE_CHECKING:  # else it would know every name

        def __getattr__(self, name: str) -> Any:
            # what is asked for the first time; from then on Python finds it by itself
            if name == "_row":
                rows, place = self._place
                self._row = row = rows[place]
                self._place = (row,), 0  # whoever keeps the event does not keep the page
                return row
            if name == "_data":
                self._data = data = _json.loads(self._row[7])
                return data
            if name == "_metadata":
                self._metadata = metadata = _json.loads(self._row[8])
                return metadata
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return event_of, (self._row,)

    @property
    def stream(self) -> str:
        """The name of the stream that it was read from."""
        return self._row[0]  # type: ignore[no-any-return]

    @property
    def position(self) -> int:
        """Its place in the order of its store; strictly increasing, with gaps."""
        return self._row[1]  # type: ignore[no-any-return]

    @property
    def id(self) -> UUID:
        """The same in every store; what to deduplicate by outside the database."""
        return self._row[2]  # type: ignore[no-any-return]

    @property
    def type(self) -> str:
        """What happened: `UserRegistered`."""
        return self._row[3]  # type: ignore[no-any-return]

    @property
    def source(self) -> str:
        """The service that it happened in."""
        return self._row[4]  # type: ignore[no-any-return]

    @property
    def entity_id(self) -> str | None:
        """The thing that it happened to; None if the event names none."""
        return self._row[5]  # type: ignore[no-any-return]

    @property
    def version(self) -> int | None:
        """Its number among its entity's events, from 1; None if it was appended without one."""
        return self._row[6]  # type: ignore[no-any-return]

    @property
    def data(self) -> dict[str, Any]:
        """What there is to say about it, decoded."""
        return self._data

    @property
    def metadata(self) -> dict[str, Any]:
        """About the event rather than the fact, decoded."""
        return self._metadata

    @property
    def data_json(self) -> str:
        """`data` as the JSON text that the store keeps, byte for byte."""
        return self._row[7]  # type: ignore[no-any-return]

    @property
    def metadata_json(self) -> str:
        """`metadata` as the JSON text that the store keeps, byte for byte."""
        return self._row[8]  # type: ignore[no-any-return]

    @property
    def occurred_at(self) -> datetime:
        """When it happened, in UTC."""
        return _moment(self._row[9])

    @property
    def recorded_at(self) -> datetime:
        """When this store recorded it, in UTC."""
        return _moment(self._row[10])

    def parse(self, model: Callable[..., T]) -> T:
        """The data as a `model`, checked.

        Args:
            model: Any pydantic model, dataclass or TypedDict.

        Raises:
            pydantic.ValidationError: the data does not fit.
        """
        return cast(T, _adapter(model).validate_json(self._row[7]))

    def fresh(self) -> RecordedEvent:
        """The event as it was read, whatever a handler has done to its decoded data since."""
        return event_of(self._row)

    def __eq__(self, other: object) -> bool:
        # a row has its moments as the database sends them, or as a driver made them
        return (
            isinstance(other, RecordedEvent)
            and self._row[:9] == other._row[:9]
            and (self.occurred_at, self.recorded_at) == (other.occurred_at, other.recorded_at)
        )

    def __hash__(self) -> int:
        return hash((self.stream, self.position, self.id))

    def __repr__(self) -> str:
        return f"<{self.type} {self.id} at {self.stream}:{self.position}>"


def _moment(value: bytes | datetime) -> datetime:
    """In UTC; from the microseconds since 2000 that PostgreSQL sends, or what a driver made."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    return POSTGRES_EPOCH + timedelta(microseconds=int.from_bytes(value, signed=True))


def event_of(row: tuple[Any, ...]) -> RecordedEvent:
    """The event of a row that has been read."""
    return RecordedEvent(((row,), 0))


class Events(Sequence[RecordedEvent]):
    """Rows that were read, as events: each is made when it is looked at, and anew each time.

    So a page costs little more than its bytes, and what a handler has done to the decoded data of
    an event is gone when that is tried again.
    """

    __slots__ = ("_places", "_rows")

    def __init__(self, rows: Sequence[tuple[Any, ...]], places: Sequence[int] | None = None):
        self._rows = rows
        self._places = range(len(rows)) if places is None else places

    @classmethod
    def of(cls, events: Sequence[RecordedEvent]) -> Events:
        """The same events, as they were read."""
        return events if isinstance(events, Events) else cls([event._row for event in events])

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[RecordedEvent]:
        return map(RecordedEvent, zip(repeat(self._rows), self._places))

    @overload
    def __getitem__(self, place: int) -> RecordedEvent: ...
    @overload
    def __getitem__(self, place: slice) -> Events: ...
    def __getitem__(self, place: int | slice) -> RecordedEvent | Events:
        if isinstance(place, slice):
            return Events(self._rows, self._places[place])
        return RecordedEvent((self._rows, self._places[place]))

    def first_of_each(self, streams: int) -> list[RecordedEvent]:
        """The first event of each stream, of which there are at most so many."""
        return self._last_of_each(self._places[::-1], streams)

    def last_of_each(self, streams: int) -> list[RecordedEvent]:
        """The last event of each stream, of which there are at most so many."""
        return self._last_of_each(self._places, streams)

    def _last_of_each(self, places: Sequence[int], streams: int) -> list[RecordedEvent]:
        rows = self._rows
        if streams == 1:
            last: Iterable[int] = places[-1:]
        else:  # nothing else of a row need be decoded
            stream: Callable[[int], str] = getattr(rows, "stream", lambda place: rows[place][0])
            last = {stream(place): place for place in places}.values()
        return [RecordedEvent((rows, place)) for place in last]


@lru_cache(maxsize=1024)
def _adapter(model: Any) -> TypeAdapter[Any]:
    return TypeAdapter(model)


class EventMapper:
    """Accessors over an event's data; subclass it and name what is inside.

    Args:
        event: The event, recorded or not.

    Examples:
        >>> class ProfileCreated(EventMapper):
        ...     @property
        ...     def room_max_size(self) -> str:
        ...         return self.get_or_default("room_max_size", "0")
        >>> ProfileCreated(Event("ProfileCreated", {"room_max_size": "4"})).room_max_size
        '4'
    """

    def __init__(self, event: RecordedEvent | Event) -> None:
        self.event = event
        """The event that it was made of."""

    def get(self, key: str) -> Any:
        """The value under `key`.

        Raises:
            MissingData: the data has no such key.
        """
        try:
            return self.event.data[key]
        except KeyError:
            event = self.event
            raise MissingData(
                f"event {event.type} {event.id} has no {key!r} in its data; "
                f"it has {', '.join(sorted(event.data)) or 'nothing'}"
            ) from None

    def get_or_default(self, key: str, default: Any = None) -> Any:
        """The value under `key`, or `default` where the data has no such key."""
        return self.event.data.get(key, default)
