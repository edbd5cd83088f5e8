"""Rows: what an append sends, and what tells two events of one id apart."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest

from eventferry import Event, InvalidEvent, InvalidStreamName
from eventferry.event import event_of
from eventferry.store import _row

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
FULL = Event("A", {"a": 1}, entity_id="42", metadata={"b": 2}, occurred_at=NOON, source="crm")


def kept(event: Event, version: int | None = None, **changes: Any) -> _row.Row:
    (row,) = _row.rows([event])
    return row._replace(**{"source": "crm", "occurred_at": NOON, "version": version, **changes})


def test_a_row_has_the_columns_in_order() -> None:
    (row,) = _row.rows([FULL])
    assert row == (FULL.id, "A", "crm", "42", None, '{"a":1}', '{"b":2}', NOON)
    assert len(_row.COLUMNS) == len(_row.TYPES)


def test_versions_are_counted_from_the_expected_one() -> None:
    rows = _row.rows([Event("A", entity_id="1") for _ in range(3)], expected_version=4)
    assert [row.version for row in rows] == [5, 6, 7]
    assert _row.rows([], expected_version=4) == []


def test_only_what_is_given_is_sent() -> None:
    one, other = _row.rows([Event("A"), Event("B", entity_id="1")])
    assert _row.given([one]) == ("id", "type", "data", "metadata")
    assert _row.given([one, other]) == ("id", "type", "entity_id", "data", "metadata")
    assert _row.places(_row.given([one])) == [0, 1, 5, 6]
    assert _row.types(("id", "data")) == ["uuid", "json"]
    assert _row.copy_types(("id", "data")) == ["uuid", "text"]


def test_a_repeated_id_is_found_quickly_among_many() -> None:
    events = [Event("A") for _ in range(20_000)]
    with pytest.raises(InvalidEvent, match=f"two of the 20001 .* have the id {events[-1].id}"):
        _row.rows([*events, replace(events[-1], type="B")])


@pytest.mark.parametrize(
    "same",
    [
        {},
        {"data": '{ "a" : 1 }'},
        {"source": None},
        {"occurred_at": None},
        {"occurred_at": NOON.astimezone(timezone(timedelta(hours=2)))},
    ],
)
def test_the_same_event_differs_in_nothing(same: dict[str, Any]) -> None:
    (row,) = _row.rows([FULL])
    assert _row.difference(row._replace(**same), kept(FULL), "users") is None


@pytest.mark.parametrize(
    ("other", "match"),
    [
        ({"type": "B"}, "its type differs"),
        ({"source": "x"}, "its source differs"),
        ({"entity_id": None}, "its entity_id differs"),
        ({"version": 1}, "its version differs"),
        ({"data": '{"a": true}'}, "its data differs"),
        ({"data": '{"a": 1.0}'}, "its data differs"),
        ({"metadata": "{}"}, "its metadata differs"),
        ({"occurred_at": NOON + timedelta(microseconds=1)}, "its occurred_at differs"),
        ({"type": "B", "data": "{}"}, "its type, data differ[.]"),
    ],
)
def test_what_differs_is_named(other: dict[str, Any], match: str) -> None:
    (row,) = _row.rows([FULL])
    conflict = _row.difference(row._replace(**other), kept(FULL), "users")
    assert conflict is not None
    with pytest.raises(type(conflict), match=match):
        raise conflict
    assert (conflict.stream, conflict.event_id) == ("users", FULL.id)


def test_a_statement_names_the_table_of_the_stream_and_no_other() -> None:
    statement = _row.statement("append_one", "users-stream", ("id", "data"))
    assert b'INSERT INTO "streams"."users-stream" ("id", "data") VALUES (%s::uuid, %s::json)' in (
        statement
    )
    for name in ("a" * 64, "Users", 'a"; --'):
        with pytest.raises(InvalidStreamName):
            _row.statement("append_one", name, ("id",))
        with pytest.raises(InvalidStreamName):
            _row.select_from(("users", name), bounded=True)


def test_a_recorded_event_takes_the_selected_columns_in_their_order() -> None:
    fields = ["stream", *_row.SELECTED]
    values: list[Any] = [f"<{name}>" for name in fields]
    values[fields.index("data")] = values[fields.index("metadata")] = "{}"
    values[fields.index("id")] = UUID(int=1)
    values[-1] = values[-2] = NOON
    event = event_of(tuple(values))
    for name, value in zip(fields, values, strict=True):
        assert getattr(event, name) == ({} if value == "{}" else value)
