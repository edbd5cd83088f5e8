"""Appends in Django's transactions, on Django's connections with all that is special to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from django.db import connection, connections, transaction
from django.db.transaction import TransactionManagementError
from django.test import Client

from eventferry import (
    Event,
    EventStore,
    InvalidEvent,
    TransactionRequired,
    UnknownStream,
    VersionConflict,
)
from tests.conftest import MakeDatabase
from tests.django_host import database, set_up, under_django
from tests.services import query

set_up()

from eventferry.django import append  # noqa: E402 - it has settings now
from tests.djangoapp.models import Note  # noqa: E402

STREAM = "shop-stream"
TRICKY = {"text": '100 % of it\'s \\ "all" \x01 ✓', "n": 2**70, "list": [1.5, None, True]}


@pytest.fixture
def url(make_database: MakeDatabase) -> Iterator[str]:
    """A local store, which is Django's default database."""
    url = make_database("local", "shop")
    with under_django(default=database(url)):
        EventStore().create_stream(STREAM, connection=connection)
        yield url


def appended(url: str) -> list[Any]:
    """The data of what others see."""
    with EventStore(url) as store:
        return [event.data.get("n") for event in store.read(STREAM)]


def noted(url: str) -> list[int]:
    return [n for (n,) in query(url, "SELECT n FROM djangoapp_note ORDER BY n")]


@pytest.mark.parametrize("count", [1, 3])
def test_an_append_commits_with_what_the_orm_writes(url: str, count: int) -> None:
    with transaction.atomic():
        Note.objects.create(n=1)
        done = append(STREAM, [Event("Noted", {"n": n}) for n in range(count)])
        assert appended(url) == noted(url) == []
    assert appended(url) == list(range(count))
    assert noted(url) == [1]
    assert len(done.positions()) == count


@pytest.mark.parametrize("count", [1, 3])
def test_an_append_that_comes_first_is_rolled_back_with_its_block(url: str, count: int) -> None:
    with suppress(ZeroDivisionError), transaction.atomic():
        append(STREAM, [Event("Noted", {"n": n}) for n in range(count)])
        raise ZeroDivisionError
    assert appended(url) == []


def test_an_append_outside_of_atomic_is_refused(url: str) -> None:
    with pytest.raises(TransactionRequired, match=r"`with transaction\.atomic\(\):`"):
        append(STREAM, Event("Noted"))
    with pytest.raises(TransactionRequired, match=r"`with transaction\.atomic\(\):`"):
        EventStore().append(STREAM, Event("Noted"), connection=connection)
    assert appended(url) == []


@pytest.mark.parametrize("given", [connection, "wrapper"], ids=["proxy", "wrapper"])
def test_a_store_takes_djangos_connection(url: str, given: Any) -> None:
    given = connections["default"] if given == "wrapper" else given
    with transaction.atomic():
        EventStore().append(STREAM, Event("Noted", {"n": 1}, entity_id="a"), connection=given)
        (event,) = EventStore().read_entity(STREAM, "a", connection=given)
    assert event.data == {"n": 1}
    assert appended(url) == [1]


@pytest.mark.parametrize("bound_by", ["client", "server"])
def test_data_is_what_it_was_and_a_json_field_too(url: str, bound_by: str) -> None:
    """Django binds on the client, and has jsonb loaded as text to decode it itself."""
    options = {"server_side_binding": bound_by == "server"}
    with under_django(tables=False, default=database(url, OPTIONS=options)):
        with transaction.atomic():
            Note.objects.create(n=1, details=TRICKY)
            first = Event("Noted", TRICKY, metadata=TRICKY, entity_id="a")
            one = append(STREAM, first, expected_version=0)
            several = [Event("Noted", TRICKY, entity_id="a") for _ in range(2)]
            append(STREAM, several, expected_version=1)
            again = append(STREAM, first, expected_version=0)
            events = EventStore().read_entity(STREAM, "a", connection=connection)
            assert Note.objects.get().details == TRICKY
        assert again.ids == one.ids
        assert [event.data for event in events] == [TRICKY] * 3
        assert [event.version for event in events] == [1, 2, 3]


def test_a_version_conflict_leaves_the_block_usable(url: str) -> None:
    with transaction.atomic():
        append(STREAM, Event("Noted", {"n": 1}, entity_id="a"), expected_version=0)
        with pytest.raises(VersionConflict):
            append(STREAM, Event("Noted", {"n": 2}, entity_id="a"), expected_version=0)
        append(STREAM, Event("Noted", {"n": 3}, entity_id="a"), expected_version=1)
    assert appended(url) == [1, 3]


def test_a_savepoint_takes_its_appends_back(url: str) -> None:
    with transaction.atomic():
        append(STREAM, Event("Noted", {"n": 1}))
        with suppress(ZeroDivisionError), transaction.atomic():
            append(STREAM, Event("Noted", {"n": 2}))
            raise ZeroDivisionError
        append(STREAM, Event("Noted", {"n": 3}))
    assert appended(url) == [1, 3]


def test_who_swallows_a_failed_append_is_told_so_by_the_next_statement(url: str) -> None:
    with transaction.atomic():
        Note.objects.create(n=1)
        with pytest.raises(UnknownStream):
            append("no-such-stream", Event("Noted"))
        with pytest.raises(TransactionManagementError, match="atomic"):
            Note.objects.create(n=2)
        with pytest.raises(TransactionManagementError, match="atomic"):
            append(STREAM, Event("Noted"))
    assert noted(url) == appended(url) == []


def test_an_event_that_is_none_leaves_the_block_usable(url: str) -> None:
    with transaction.atomic():
        with pytest.raises(InvalidEvent):
            append(STREAM, Event("Noted", {"n": float("nan")}))
        append(STREAM, Event("Noted", {"n": 1}))
    assert appended(url) == [1]


@pytest.mark.parametrize(("question", "committed"), [("", [7]), ("?fail=1", [])])
def test_a_view_with_atomic_requests_is_one_transaction(
    url: str, question: str, committed: list[int]
) -> None:
    client = Client(raise_request_exception=False)
    with under_django(tables=False, default=database(url, ATOMIC_REQUESTS=True)):
        client.get(f"/notes/7{question}")
    assert noted(url) == appended(url) == committed


def test_a_view_without_it_is_refused(url: str) -> None:
    with pytest.raises(TransactionRequired):
        Client().get("/notes/7")


def test_another_alias_is_named(url: str, make_database: MakeDatabase) -> None:
    elsewhere = make_database("local", "shop")
    with under_django(tables=False, other=database(elsewhere)):
        EventStore().create_stream(STREAM, connection=connections["other"])
        with pytest.raises(TransactionRequired, match="using='other'"), transaction.atomic():
            append(STREAM, Event("Noted", {"n": 1}), using="other")
        with transaction.atomic(using="other"):
            append(STREAM, Event("Noted", {"n": 1}), using="other")
    assert appended(url) == []
    assert appended(elsewhere) == [1]


def test_the_isolation_of_the_settings_counts(url: str) -> None:
    options = {"isolation_level": psycopg.IsolationLevel.SERIALIZABLE}
    serializable = under_django(tables=False, default=database(url, OPTIONS=options))
    with serializable, transaction.atomic(), connection.cursor() as cursor:
        append(STREAM, [Event("Noted", {"n": n}) for n in range(3)])
        cursor.execute("SHOW transaction_isolation")
        assert cursor.fetchone() == ("serializable",)
    assert appended(url) == [0, 1, 2]


def test_transactions_by_hand_are_djangos_own_matter(url: str) -> None:
    with under_django(tables=False, default=database(url, AUTOCOMMIT=False)):
        append(STREAM, Event("Noted", {"n": 1}))
        with pytest.raises(UnknownStream):
            append("no-such-stream", Event("Noted"))
        transaction.rollback()
        append(STREAM, Event("Noted", {"n": 2}))
        transaction.commit()
    assert appended(url) == [2]
