"""Events: what can't be kept is refused when it is made; what was kept is decoded when touched."""

from __future__ import annotations

import copy
import pickle
import weakref
from collections.abc import Callable, Sequence
from dataclasses import FrozenInstanceError, dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, ValidationError

from eventferry import Event, EventMapper, InvalidEvent, MissingData, RecordedEvent
from eventferry.event import Events, event_of

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
ID = UUID("01890000-0000-7000-8000-000000000000")


def recorded(data: str = "{}", metadata: str = "{}", *, at: datetime = NOON) -> RecordedEvent:
    return event_of(("users", 7, ID, "A", "crm", "42", 1, data, metadata, at, at))


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"type": ""}, "type must have 1 to 255 characters, not 0"),
        ({"type": "x" * 256}, "not 256"),
        ({"type": 7}, "type must be text, not int 7"),
        ({"type": "a\x00"}, "type holds a character"),
        ({"entity_id": ""}, "entity_id must have 1 to 255"),
        ({"entity_id": 42}, "entity_id must be text, not int 42"),
        ({"entity_id": "\ud800"}, "entity_id holds a character"),
        ({"source": ""}, "source must have 1 to 255"),
        ({"data": [1]}, "data of event 'A' must be a mapping .* not list"),
        ({"data": None}, "not NoneType"),
        ({"metadata": "{}"}, "metadata of event 'A' must be a mapping .* not str"),
        ({"id": str(ID)}, "id must be a uuid.UUID, not str"),
        ({"occurred_at": NOON.replace(tzinfo=None)}, "has no time zone: .* aware datetime"),
        ({"occurred_at": NOON.isoformat()}, "must be a datetime, not str"),
        ({"occurred_at": NOON.date()}, "must be a datetime, not date"),
    ],
)
def test_an_event_that_cannot_be_kept_is_refused_when_it_is_made(
    fields: dict[str, Any], match: str
) -> None:
    with pytest.raises(InvalidEvent, match=match):
        Event(**{"type": "A", **fields})


def test_an_event_is_immutable_and_has_an_id_of_its_own() -> None:
    event = Event("A", {"a": 1}, occurred_at=NOON)
    with pytest.raises(FrozenInstanceError):
        event.type = "B"  # type: ignore[misc]
    assert (event.id.version, event.data, event.metadata) == (7, {"a": 1}, {})
    ids = [Event("A").id for _ in range(1000)]
    assert ids == sorted(set(ids))


def test_an_effect_is_chained_to_its_cause() -> None:
    first = Event("B", metadata={"by": "test"}).caused_by(recorded())
    assert first.metadata == {
        "correlation_id": str(ID),
        "causation_id": str(ID),
        "by": "test",
    }
    later = Event("C").caused_by(recorded(metadata='{"correlation_id": "x"}'))
    assert later.metadata == {"correlation_id": "x", "causation_id": str(ID)}
    none = Event("C").caused_by(recorded(metadata='{"correlation_id": null}'))  # any client appends
    assert none.metadata["correlation_id"] == str(ID)
    kept = Event("D", metadata={"correlation_id": "mine"}).caused_by(recorded())
    assert kept.metadata["correlation_id"] == "mine"


class Page(Sequence[tuple[Any, ...]]):
    """Three rows, which tell how often they are decoded."""

    def __init__(self) -> None:
        self.decoded = 0

    def __len__(self) -> int:
        return 3

    def __getitem__(self, place: Any) -> Any:
        self.decoded += 1
        return (f"stream-{place % 2}", place + 1, ID, "A", "crm", "42", 1, "{}", "{}", NOON, NOON)


def test_events_are_decoded_when_they_are_looked_at_and_once() -> None:
    page = Page()
    events = list(Events(page))
    assert page.decoded == 0

    assert [event.position for event in events] == [1, 2, 3]
    assert [event.type for event in events] == ["A"] * 3
    assert page.decoded == 3


def test_an_event_that_was_looked_at_does_not_keep_its_page() -> None:
    page = Page()
    gone = weakref.ref(page)
    event = Events(page)[1]
    assert event.position == 2
    del page

    assert gone() is None
    assert event.type == "A"


def test_events_are_a_sequence() -> None:
    events = Events(Page())

    assert [event.position for event in events[1:]] == [2, 3]
    assert [event.position for event in events[1:][1:]] == [3]
    assert events[-1].position == 3
    assert (len(events), len(events[:2])) == (3, 2)
    with pytest.raises(IndexError):
        _ = events[3]
    assert [event.position for event in events.first_of_each(2)] == [1, 2]
    assert [event.position for event in events.last_of_each(2)] == [3, 2]
    assert [event.position for event in events.last_of_each(1)] == [3]


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))]
)
def test_a_recorded_event_can_be_copied(copied: Callable[[RecordedEvent], RecordedEvent]) -> None:
    event = recorded('{"a": 1}')
    assert copied(event) == event
    assert copied(event).data == {"a": 1}


def test_a_recorded_event_has_no_other_fields() -> None:
    with pytest.raises(AttributeError, match="'RecordedEvent' object has no attribute 'payload'"):
        _ = recorded().payload  # type: ignore[attr-defined]


def test_a_recorded_event_has_the_fields_of_its_row() -> None:
    zone = timezone(timedelta(hours=5, minutes=45))
    event = recorded('{"a": 1}', '{"b": 2}', at=NOON.astimezone(zone))
    assert (event.stream, event.position, event.id, event.type) == ("users", 7, ID, "A")
    assert (event.source, event.entity_id, event.version) == ("crm", "42", 1)
    assert (event.data, event.metadata) == ({"a": 1}, {"b": 2})
    assert (event.occurred_at, event.occurred_at.tzinfo) == (NOON, UTC)
    assert (event.recorded_at, event.recorded_at.tzinfo) == (NOON, UTC)
    assert repr(event) == f"<A {ID} at users:7>"


def test_json_is_decoded_when_it_is_touched_and_once() -> None:
    event = recorded(data="broken")
    assert event.data_json == "broken"
    with pytest.raises(InvalidEvent, match="not JSON"):
        _ = event.data
    event = recorded('{"a": [1]}')
    assert event.data is event.data


def test_a_fresh_event_forgets_what_was_done_to_its_data() -> None:
    event = recorded('{"a": 1}')
    event.data["a"] = 2
    assert (event.data, event.fresh().data) == ({"a": 2}, {"a": 1})
    assert event == event.fresh()
    assert len({event, event.fresh()}) == 1
    assert event != recorded('{"a": 2}')


class Profile(BaseModel):
    email: str
    age: int = 0


@dataclass
class Point:
    x: int


def test_data_is_parsed_into_a_model() -> None:
    assert recorded('{"email": "a@b.c"}').parse(Profile) == Profile(email="a@b.c")
    assert recorded('{"x": 1}').parse(Point) == Point(1)
    with pytest.raises(ValidationError, match="email"):
        recorded().parse(Profile)


class ProfileCreated(EventMapper):
    @property
    def min_size(self) -> Any:
        return self.get("min_size")

    @property
    def max_size(self) -> Any:
        return self.get_or_default("max_size", "0")


def test_a_mapper_gives_names_to_what_is_inside() -> None:
    for event in (recorded('{"min_size": "1"}'), Event("A", {"min_size": "1"})):
        profile = ProfileCreated(event)
        assert (profile.min_size, profile.max_size) == ("1", "0")
    with pytest.raises(MissingData, match=r"event A .* has no 'min_size' in its data; it has b, c"):
        _ = ProfileCreated(recorded('{"c": 1, "b": 2}')).min_size
    with pytest.raises(MissingData, match="it has nothing"):
        _ = ProfileCreated(recorded()).min_size
