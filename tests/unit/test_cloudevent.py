"""CloudEvents lines: read, kept, written again as they came."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventferry import _json, cloudevent
from eventferry.cloudevent import ParsedCloudEvent
from eventferry.errors import InvalidEvent
from eventferry.event import RecordedEvent, event_of

RECEIPT = {
    "specversion": "1.0",
    "id": "f953708e-c46b-5dd7-8806-03afd26bc8e7",
    "source": "/municipality/permits",
    "type": "ConfirmationOfReceipt",
    "subject": "case-891",
    "time": "2010-10-02T07:20:39.266Z",
    "datacontenttype": "application/json",
    "data": {"activity": "Confirmation of receipt", "channel": "Internet"},
}
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def parsed(**changes: Any) -> ParsedCloudEvent:
    """The example with changes, parsed; ... takes an attribute away."""
    return cloudevent.parse(json.dumps(changed(**changes)))


def changed(**changes: Any) -> dict[str, Any]:
    return {key: value for key, value in (RECEIPT | changes).items() if value is not ...}


def recorded(given: ParsedCloudEvent) -> RecordedEvent:
    """What a store returns after an append of the event."""
    event = given.event
    return event_of(
        (
            "permits-stream",
            1,
            event.id,
            event.type,
            event.source,
            event.entity_id,
            given.version,
            _json.dumps(event.data, what="data"),
            _json.dumps(event.metadata, what="metadata"),
            event.occurred_at or NOW,
            NOW,
        )
    )


def native(**changes: Any) -> RecordedEvent:
    """An event that never was a CloudEvent."""
    fields = {
        "id": UUID(int=7),
        "type": "UserRegistered",
        "source": "users",
        "entity_id": "42",
        "version": 3,
        "data": {"email": "a@b.c"},
        "metadata": {},
        "occurred_at": NOW,
    } | changes
    return event_of(
        (
            "users-stream",
            1,
            fields["id"],
            fields["type"],
            fields["source"],
            fields["entity_id"],
            fields["version"],
            _json.dumps(fields["data"], what="data"),
            _json.dumps(fields["metadata"], what="metadata"),
            fields["occurred_at"],
            NOW,
        )
    )


# ---- reading


def test_a_usual_line_needs_nothing_kept() -> None:
    given = parsed()
    event = given.event
    assert event.id == UUID("f953708e-c46b-5dd7-8806-03afd26bc8e7")
    assert (event.type, event.source) == ("ConfirmationOfReceipt", "/municipality/permits")
    assert event.entity_id == "case-891"
    assert event.occurred_at == datetime(2010, 10, 2, 7, 20, 39, 266_000, UTC)
    assert event.data == RECEIPT["data"]
    assert event.metadata == {}
    assert given.version is None


def test_known_extensions_are_version_and_metadata() -> None:
    given = parsed(
        entityversion=5, correlationid="c", causationid="a", traceparent="t", tracestate="s"
    )
    assert given.version == 5
    assert given.event.metadata == {
        "correlation_id": "c",
        "causation_id": "a",
        "traceparent": "t",
        "tracestate": "s",
    }


@pytest.mark.parametrize(
    "id_", ["1", "A-1", "F953708E-C46B-5DD7-8806-03AFD26BC8E7", "f953708ec46b5dd7880603afd26bc8e7"]
)
def test_an_id_that_is_no_canonical_uuid_is_kept_beside_one_derived_from_it(id_: str) -> None:
    event = parsed(id=id_).event
    assert event.id == uuid5(uuid5(NAMESPACE_URL, "/municipality/permits"), id_)
    assert event.metadata == {"cloudevents": {"id": id_}}


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2010-10-02T07:20:39Z", datetime(2010, 10, 2, 7, 20, 39, tzinfo=UTC)),
        ("2010-10-02t07:20:39.26z", datetime(2010, 10, 2, 7, 20, 39, 260_000, UTC)),
        ("2010-10-02T09:20:39.266+02:00", datetime(2010, 10, 2, 7, 20, 39, 266_000, UTC)),
        ("2010-10-02T07:20:39.123456789Z", datetime(2010, 10, 2, 7, 20, 39, 123_456, UTC)),
        ("2016-12-31T23:59:60.5Z", datetime(2017, 1, 1, 0, 0, 0, 500_000, UTC)),
    ],
)
def test_an_unusual_time_is_understood_and_its_text_kept(text: str, moment: datetime) -> None:
    event = parsed(time=text).event
    assert event.occurred_at == moment
    assert event.metadata == {"cloudevents": {"time": text}}


def test_a_time_that_is_not_there_is_left_to_the_store() -> None:
    event = parsed(time=...).event
    assert event.occurred_at is None
    assert event.metadata == {"cloudevents": {"time": None}}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"specversion": "0.3"}, "specversion must be \"1.0\", not '0.3'"),
        ({"specversion": ...}, 'specversion must be "1.0", it is missing; is this a CloudEvent?'),
        ({"id": ...}, "id is missing: a CloudEvent has specversion, id, source and type"),
        ({"id": 5}, "id must be text that is not empty, not 5"),
        ({"source": None}, "source is missing"),
        ({"source": ""}, "source must be text that is not empty, not ''"),
        ({"type": ...}, "type is missing"),
        ({"type": "x" * 256}, "type must have 1 to 255 characters, not 256"),
        ({"subject": ""}, "subject must be text that is not empty, not ''"),
        ({"subject": 891}, "subject must be text that is not empty, not 891"),
        ({"entityversion": "1"}, "must be a whole number from 1 to 2147483647, not '1'"),
        ({"entityversion": 0}, "must be a whole number from 1 to 2147483647, not 0"),
        ({"entityversion": True}, "must be a whole number from 1 to 2147483647, not True"),
        ({"entityversion": 2**31}, "from 1 to 2147483647, not 2147483648"),
        ({"entityversion": 1, "subject": ...}, "entityversion needs a subject"),
        ({"time": "2010-10-02T07:20:39"}, "time must be an RFC 3339 time with a zone, such as"),
        ({"time": "2010-02-30T07:20:39Z"}, "not '2010-02-30T07:20:39Z'"),
        ({"time": "2010-10-02T07:20:61Z"}, "not '2010-10-02T07:20:61Z'"),
        ({"time": "0001-01-01T00:00:00+23:59"}, "not '0001-01-01T00:00:00+23:59'"),
        ({"time": 1286004039}, "not 1286004039"),
        ({"data": None}, "data must be a JSON object, or absent, not null"),
        ({"data": [1]}, "data must be a JSON object, or absent, not an array"),
        ({"data": "<xml/>"}, "data must be a JSON object, or absent, not text"),
        ({"data": ..., "data_base64": "AA=="}, "data_base64 can't be kept"),
        ({"id": "\ud800"}, "id or source holds half of a surrogate pair"),
    ],
    ids=repr,
)
def test_a_line_that_cannot_be_kept_is_explained(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        parsed(**changes)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{", "the line is not JSON: "),
        ("", "expected one CloudEvent a line, in JSON"),
        (b'{"a": "\xff"}', "the line is not UTF-8: its byte 8 is 0xff"),
        ("{}".encode("utf-16"), "the line is not UTF-8: its byte 1 is 0xff"),
        (b"\x1f\x8b\x08", "Is the file compressed"),
        ("[]", "a CloudEvent is a JSON object, not an array"),
        ("3", "a CloudEvent is a JSON object, not 3"),
    ],
)
def test_a_line_that_is_no_object_is_explained(line: str | bytes, expected: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        cloudevent.parse(line)
    assert expected in str(caught.value)


# ---- writing


def test_a_native_event_is_written_with_its_metadata() -> None:
    metadata = {"correlation_id": "c", "user": "x", "causation_id": 5}
    assert cloudevent.format(native(metadata=metadata)) == {
        "specversion": "1.0",
        "id": "00000000-0000-0000-0000-000000000007",
        "source": "users",
        "type": "UserRegistered",
        "subject": "42",
        "time": "2026-01-31T12:00:00.000Z",
        "datacontenttype": "application/json",
        "entityversion": 3,
        "correlationid": "c",
        "eventferrymetadata": '{"user":"x","causation_id":5}',
        "data": {"email": "a@b.c"},
    }


def test_a_line_begins_with_specversion_and_ends_with_data() -> None:
    line = cloudevent.format_line(native())
    assert line.startswith('{"specversion":"1.0","id":')
    assert line.endswith(',"data":{"email":"a@b.c"}}')


def test_metadata_cannot_disguise_an_event() -> None:
    kept = {"specversion": None, "type": "Other", "source": "x", "subject": "y", "extra": 1}
    written = cloudevent.format(native(metadata={"cloudevents": kept}))
    assert (written["specversion"], written["type"]) == ("1.0", "UserRegistered")
    assert (written["source"], written["subject"], written["extra"]) == ("users", "42", 1)


def test_what_a_handler_changes_in_decoded_data_is_not_written() -> None:
    event = native()
    event.data["email"] = "changed"
    event.metadata["added"] = 1
    assert cloudevent.format(event) == cloudevent.format(native())


# ---- there and back


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"data": ...},
        {"data": ..., "datacontenttype": ...},
        {"datacontenttype": ...},
        {"datacontenttype": "application/vnd.permits+json"},
        {"dataschema": "https://example.org/schema"},
        {"subject": ...},
        {"time": ...},
        {"partitionkey": "7", "sequence": 2**70, "flag": True, "ratio": 1.0},
        {"correlationid": 5, "traceparent": "00-ab-cd-01", "tracestate": "a=b"},
        {"eventferrymetadata": '{"user": "x"}'},
        {"eventferrymetadata": '{"user":"x"}'},
        {"eventferrymetadata": '{"correlation_id":"mine"}', "correlationid": "theirs"},
        {"eventferrymetadata": '{"cloudevents":{"id":"1"}}'},
        {"eventferrymetadata": "not JSON"},
        {"eventferrymetadata": 1},
        {"data": {"cloudevents": {"nested": [2**70, 1.0, True, None]}}},
    ],
    ids=repr,
)
def test_a_line_is_written_again_as_it_came(changes: dict[str, Any]) -> None:
    line = json.dumps(changed(**changes))
    assert _json.same(cloudevent.format_line(recorded(cloudevent.parse(line))), line)


def test_an_attribute_that_is_null_counts_as_absent() -> None:
    written = cloudevent.format(recorded(parsed(time=None, subject=None, extra=None)))
    assert written == changed(time=..., subject=...)


texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))
names = texts.filter(lambda text: 1 <= len(text) <= 255)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
values = st.recursive(
    scalars | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
objects = st.dictionaries(texts, values, max_size=4)
# A day from the ends of time: no zone leads out of it.
first, last = datetime.fromisoformat("0001-01-03"), datetime.fromisoformat("9999-12-29")
moments = st.datetimes(first, last, timezones=st.just(UTC))
zones = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
times = st.datetimes(first, last, timezones=zones).map(datetime.isoformat)
own = st.sampled_from(["correlation_id", "causation_id", "traceparent", "tracestate", "user"])
metadata = st.dictionaries(own | texts.filter(lambda key: key != "cloudevents"), values, max_size=4)
extensions = st.sampled_from(
    [
        "dataschema",
        "datacontenttype",
        "correlationid",
        "causationid",
        "traceparent",
        "tracestate",
        "x",
        "cloudevents",
    ]
)
lines = st.builds(
    lambda required, optional, others: {**others, **required, **optional},
    st.fixed_dictionaries(
        {
            "specversion": st.just("1.0"),
            "id": names | st.uuids().map(str) | st.uuids().map(lambda id_: str(id_).upper()),
            "source": names,
            "type": names,
        }
    ),
    st.one_of(
        st.fixed_dictionaries({}, optional={"subject": names, "time": times, "data": objects}),
        st.fixed_dictionaries({"subject": names, "entityversion": st.integers(1, 2**31 - 1)}),
    ),
    st.dictionaries(extensions, values.filter(lambda value: value is not None), max_size=4)
    | st.fixed_dictionaries({"eventferrymetadata": texts | metadata.map(json.dumps)}),
)


@given(lines)
def test_any_line_is_written_again_as_it_came(line: dict[str, Any]) -> None:
    text = json.dumps(line)
    assert _json.same(cloudevent.format_line(recorded(cloudevent.parse(text))), text)


@given(
    st.uuids(),
    names,
    names,
    st.none() | names,
    objects,
    metadata,
    moments,
    st.integers(1, 2**31 - 1),
)
def test_any_native_event_survives_export_and_import(
    id_: UUID,
    type_: str,
    source: str,
    entity_id: str | None,
    data: dict[str, Any],
    metadata: dict[str, Any],
    occurred_at: datetime,
    version: int,
) -> None:
    before = native(
        id=id_,
        type=type_,
        source=source,
        entity_id=entity_id,
        version=None if entity_id is None else version,
        data=data,
        metadata=metadata,
        occurred_at=occurred_at,
    )
    given = cloudevent.parse(cloudevent.format_line(before))
    event = given.event
    assert (event.id, event.type, event.source) == (before.id, before.type, before.source)
    assert (event.entity_id, given.version) == (before.entity_id, before.version)
    assert event.occurred_at == before.occurred_at
    assert repr(event.data) == repr(before.data)
    assert event.metadata == before.metadata
