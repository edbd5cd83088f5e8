"""Whatever an event can hold is read as it was appended, in its own store and in the shared one."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from eventferry import Event, RecordedEvent
from eventferry._json import MAX_DEPTH
from eventferry._uuid import uuid7
from eventferry.store import EventStore
from tests.conftest import MakeService
from tests.services import Service
from tests.unit.test_json import nested, texts, values, with_types

STREAM = "users-stream"

thorough = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture
def users(make_service: MakeService) -> Service:
    users = make_service("users")
    users.create_stream(STREAM)
    users.producing("ferry", STREAM)
    return users


def newest(store: EventStore, count: int) -> list[RecordedEvent]:
    return list(store.read(STREAM, backwards=True, limit=count))[::-1]


# ---- by the Python API

names = st.text(
    st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=255
)
objects = st.dictionaries(
    texts | names.map(lambda text: text * 1000),
    values | st.integers(1, MAX_DEPTH - 1).map(nested),
    max_size=4,
)
events = st.builds(
    Event,
    type=names,
    data=objects,
    metadata=objects,
    entity_id=st.none() | names,
    source=names,
)


def content(event: Event | RecordedEvent) -> str:
    return with_types((event.type, event.entity_id, event.source, event.data, event.metadata))


def test_any_event_that_is_appended_is_read_equal_and_of_the_same_types(users: Service) -> None:
    with users.running("ferry") as look:

        @thorough
        @given(st.lists(events, min_size=2, max_size=5))
        @example([Event("é" * 255, {"": 2**70, "-": -0.0, "1": 1.0}, source="\x01\u2028😀")] * 2)
        def check(given: list[Event]) -> None:
            by_insert = [replace(event, id=uuid7()) for event in given]
            by_copy = [replace(event, id=uuid7()) for event in given]
            for event in by_insert:
                users.append(STREAM, event)
            users.append(STREAM, by_copy)
            look()
            for store in (users.local, users.shared):
                found = newest(store, len(given) * 2)
                assert [event.id for event in found] == [e.id for e in (*by_insert, *by_copy)]
                assert [content(event) for event in found] == [content(e) for e in given] * 2

        check()


# ---- by another client

spaces = st.text(" \t\n\r", max_size=2)
characters = (
    st.characters(codec="utf-8", categories=["L", "N", "S", "Zs"], exclude_characters='"\\')
    | st.sampled_from(['\\"', "\\\\", "\\/", "\\b", "\\f", "\\n", "\\r", "\\t", "\x7f", "\u2028"])
    | st.integers(0, 0xFFFF).map("\\u{:04x}".format)
    | st.integers(0, 0xFFFF).map("\\u{:04X}".format)
)
strings = st.lists(characters, max_size=6).map(lambda inner: f'"{"".join(inner)}"')
numbers = st.sampled_from(["1E400", "-0", "1.0", "1", str(2**70), "1e-400", "0.10", "-0.0E+00"])
scalars = (
    st.sampled_from(["null", "true", "false"])
    | strings
    | numbers
    | st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,4})?", fullmatch=True)
)


def listed(parts: st.SearchStrategy[str], begin: str, end: str) -> st.SearchStrategy[str]:
    """The parts between brackets, with any white space around them."""
    spaced = st.tuples(spaces, parts, spaces).map("".join)
    inner = st.lists(spaced, min_size=1, max_size=4).map(",".join) | spaces
    return inner.map(lambda text: f"{begin}{text}{end}")


def members(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """`"key": value`; the same key may come again."""
    keys = st.sampled_from(['""', '"a"', '"\\u0061"']) | strings
    return st.tuples(keys, spaces, st.just(":"), spaces, inner).map("".join)


any_json = st.recursive(
    scalars,
    lambda inner: listed(inner, "[", "]") | listed(members(inner), "{", "}"),
    max_leaves=10,
)
object_texts = st.tuples(spaces, listed(members(any_json), "{", "}"), spaces).map("".join)


def test_any_json_text_of_another_client_stays_as_it_is_byte_for_byte(users: Service) -> None:
    with users.running("ferry") as look, psycopg.connect(users.local_url) as conn:

        @thorough
        @given(st.lists(st.tuples(object_texts, object_texts), min_size=1, max_size=5))
        @example([(' { "a" : 1E400, "a":-0,\n"a":1.0 , "\\u0000":"\\uD800" }\t', "{\r}")])
        @example([('{"a":' + "[" * 999 + "]" * 999 + "}", "{}")])
        def check(given: list[tuple[str, str]]) -> None:
            with conn.transaction(), conn.cursor() as cursor:
                cursor.executemany(
                    'INSERT INTO streams."users-stream" (type, data, metadata)'
                    " VALUES ('Plain', %s, %s)",
                    given,
                )
            conn.commit()
            look()
            for store in (users.local, users.shared):
                found = newest(store, len(given))
                assert [(event.data_json, event.metadata_json) for event in found] == given

        check()
