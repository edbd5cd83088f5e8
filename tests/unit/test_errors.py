"""Errors: one tree, drawn in the docstring; what the driver says, said better."""

from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import errors as pg

from eventferry import connection, embedded, errors
from eventferry.errors import EventFerryError, redacted


def subclasses(error: type[Exception]) -> Iterator[type[Exception]]:
    for subclass in error.__subclasses__():
        yield subclass
        yield from subclasses(subclass)


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    drawn: dict[str, str] = {}
    path = ["EventFerryError"]
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"    ([ │├└─]*)── (\w+)", line):
            depth = len(found[1]) // 4 + 1
            path[depth:] = [found[2]]
            drawn[found[2]] = path[depth - 1]
    assert embedded.EmbeddedServerError.__name__ in drawn
    modules = {"eventferry.errors", "eventferry.server_folder"}  # not those of the demo's own
    ours = [e for e in subclasses(EventFerryError) if e.__module__ in modules]
    assert drawn == {error.__name__: error.__bases__[0].__name__ for error in ours}


def test_a_mistake_of_the_caller_is_a_value_error_too() -> None:
    for error in (errors.ConfigurationError, errors.InvalidEvent, errors.InvalidStreamName):
        assert issubclass(error, ValueError)
    assert issubclass(errors.MissingData, KeyError)
    assert str(errors.MissingData("no 'a' in it")) == "no 'a' in it"


def test_a_version_conflict_says_both_versions() -> None:
    conflict = errors.VersionConflict(stream="users", entity_id="42", expected=1, actual=3)
    assert "'42' of stream 'users' was expected at version 1, but is at version 3" in str(conflict)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://users@db:5432/users", "postgresql://users@db:5432/users"),
        ("postgresql://users:secret@db/users", "postgresql://users@db/users"),
        ("postgresql://db/users?password=secret", "postgresql://db/users"),
        ("postgresql://a:secret@one:1,two:2/users", "postgresql://a@one,two:1,2/users"),
        ("host=db password='se cret' dbname=users", "postgresql://db/users"),
        ("postgresql://users:se/cret@db/users", errors.UNPARSED),
        ("postgresql://users:se@cret@db/users", errors.UNPARSED),
        ("postgresql://a%40b:secret@db/users", "postgresql://a@b@db/users"),
        ("postgresql://users:se cret@db/users", errors.UNPARSED),
        ("secret", errors.UNPARSED),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert redacted(url) == shown


@given(st.text(alphabet=st.sampled_from("#/?@:%& ='\\[]é"), min_size=1))
def test_no_password_is_shown_however_badly_it_is_quoted(noise: str) -> None:
    for url in (
        f"postgresql://users:SECRET{noise}SECRET@db:5432/users",
        f"postgresql://db/users?password=SECRET{noise}",
        f"host=db password='SECRET{noise}' dbname=users",
    ):
        assert "SECRET" not in redacted(url)


@pytest.mark.parametrize(
    ("error", "ours", "match"),
    [
        (pg.UndefinedTable('relation "streams.a-b" does not exist'), "UnknownStream", "'a-b'"),
        (pg.UndefinedTable("Relation »streams.a_b« existiert nicht"), "UnknownStream", "'a_b'"),
        (pg.UndefinedTable('relation "eventferry.store" …'), "StoreNotMigrated", "migrate"),
        (pg.UndefinedFunction("eventferry.horizon(text[])"), "StoreNotMigrated", "migrate"),
        (pg.UndefinedTable('relation "profiles" does not exist'), None, ""),
        (pg.InvalidPassword("no"), "StoreUnavailable", "does not let us in"),
        (pg.InvalidCatalogName("no"), "StoreUnavailable", "Create the database"),
        (pg.TooManyConnections("too many"), "StoreUnavailable", "not available just now"),
        (pg.SerializationFailure("again"), "StoreUnavailable", "not available just now"),
        (pg.InsufficientPrivilege("no"), "StoreError", "Ask its owner"),
        (pg.DivisionByZero("no"), None, ""),
        (psycopg.OperationalError("server closed"), "StoreUnavailable", "not available"),
    ],
)
def test_an_error_of_the_driver_becomes_ours_where_we_know_better(
    error: psycopg.Error, ours: str | None, match: str
) -> None:
    translated = connection.translation(error, "local store")
    assert (translated and type(translated).__name__) == ours
    assert match in str(translated or "")
    assert "local store" in str(translated or "local store")


def test_an_outage_is_not_the_fault_of_what_was_asked() -> None:
    outages = [
        pg.AdminShutdown(),
        pg.DeadlockDetected(),
        pg.DiskFull(),
        pg.ConnectionFailure(),
        pg.ReadOnlySqlTransaction(),
        psycopg.OperationalError("gone"),
        psycopg.InternalError("received 2 results from command 'COMMIT'"),
        errors.StoreUnavailable("gone"),
    ]
    others = [
        pg.UniqueViolation(),
        pg.InternalError_(),
        psycopg.InterfaceError(),
        ValueError(),
        errors.StoreError(),
    ]
    assert [error for error in outages if not connection.is_outage(error)] == []
    assert [error for error in others if connection.is_outage(error)] == []
