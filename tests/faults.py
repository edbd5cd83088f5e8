"""Connections that die at a chosen moment: between any two statements, and after the last.

psycopg talks to the server in `Connection.wait`, once a statement. `dying_at(n)` breaks the n-th
connection that talks, before it is heard or after the server has done what it was asked: then
nobody knows whether a commit has happened.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import psycopg

When = Literal["before", "after"]


class Fault:
    """Counts the conversations of this process, and ends one of them."""

    def __init__(self, at: int, when: When) -> None:
        self.at = at
        self.when = when
        self.count = 0
        self._lock = threading.Lock()

    @property
    def has_struck(self) -> bool:
        return self.count >= self.at

    def strikes(self, conn: Any) -> bool:
        if conn.pgconn.status != psycopg.pq.ConnStatus.OK:
            return False
        with self._lock:
            self.count += 1
            return self.count == self.at


@contextmanager
def dying_at(at: int, when: When, monkeypatch: Any) -> Iterator[Fault]:
    """Breaks the connection of the `at`-th conversation, `before` or `after` the server heard."""
    fault = Fault(at, when)
    wait, wait_async = psycopg.Connection.wait, psycopg.AsyncConnection.wait

    def dying(self: Any, gen: Any, *args: Any, **kwargs: Any) -> Any:
        strikes = fault.strikes(self)
        if strikes and when == "before":
            self.pgconn.finish()
        result = wait(self, gen, *args, **kwargs)
        if strikes:
            self.pgconn.finish()
            raise psycopg.OperationalError("the connection died")
        return result

    async def dying_async(self: Any, gen: Any, *args: Any, **kwargs: Any) -> Any:
        strikes = fault.strikes(self)
        if strikes and when == "before":
            self.pgconn.finish()
        result = await wait_async(self, gen, *args, **kwargs)
        if strikes:
            self.pgconn.finish()
            raise psycopg.OperationalError("the connection died")
        return result

    with monkeypatch.context() as patch:
        patch.setattr(psycopg.Connection, "wait", dying)
        patch.setattr(psycopg.AsyncConnection, "wait", dying_async)
        yield fault
