"""Pauses inside of the store's functions: for interleavings that would else need luck.

A pause is put between two statements of a function, *in whichever order they stand*: so that a
test can strike between them, and be red when somebody swaps them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from tests.waiting import wait_for_lock

KEY = (7, 7)
PAUSE = "PERFORM pg_catalog.pg_advisory_lock_shared(7, 7);"


@dataclass(frozen=True, slots=True)
class Between:
    """Two statements of a function, as patterns."""

    function: str
    one: str
    other: str


HORIZON = Between(
    "eventferry.horizon(text[])",
    r"head :=[^;]*;",
    r"SELECT [^;]*?\bFROM pg_locks\b[^;]*;",
)
"""The head is read; the markers are looked at."""
MARK = Between(
    "eventferry.mark()",
    r"IF pg_catalog\.pg_try_advisory_xact_lock_shared.*?END IF;",
    r"IF \(CASE WHEN pg_catalog\.pg_try_advisory_lock.*?END IF;",
)
"""The marker is taken; it is tested whether anybody sleeps."""


@dataclass(slots=True)
class Gate:
    """Where the function stops, until the gate is opened."""

    url: str
    conn: psycopg.Connection[Any]

    def wait(self) -> None:
        """Returns when somebody has come to the gate."""
        wait_for_lock(self.url)

    def open(self) -> None:
        """Lets everybody through, for good."""
        self.conn.rollback()


@contextmanager
def pause(url: str, between: Between) -> Iterator[Gate]:
    """Puts a closed gate into a function of a test's own database."""
    with psycopg.connect(url) as conn:
        conn.execute("SELECT pg_advisory_xact_lock(%s, %s)", KEY)
        with psycopg.connect(url, autocommit=True) as other:
            row = other.execute(
                "SELECT pg_get_functiondef(%s::regprocedure)", (between.function,)
            ).fetchone()
            assert row is not None
            other.execute(sql.SQL(paused(row[0], between)))
        yield Gate(url, conn)


def paused(definition: str, between: Between) -> str:
    """The definition with the pause after the first of the two statements."""
    ends = []
    for pattern in (between.one, between.other):
        match = re.search(pattern, definition, re.DOTALL)
        assert match, f"{between.function} has no statement like {pattern}"
        ends.append(match.end())
    at = min(ends)
    return f"{definition[:at]}\n    {PAUSE}\n{definition[at:]}"
