"""Connections that die at a chosen moment: between any two statements, and after the last.

psycopg talks to a server in `Connection.wait`, once a conversation (a statement, a part of a COPY,
a commit). `dying_at(n)` breaks the connection of the n-th one, when the server has done what it was
asked and before anybody hears of it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg


class Fault:
    """Counts the conversations of this process, and ends one of them."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.count = 0
        self._lock = threading.Lock()

    @property
    def has_struck(self) -> bool:
        return self.count >= self.at

    def strike(self, conn: Any) -> None:
        if conn.pgconn.status != psycopg.pq.ConnStatus.OK:
            return
        with self._lock:
            self.count += 1
            if self.count != self.at:
                return
        conn.pgconn.finish()
        raise psycopg.OperationalError("the connection died")


@contextmanager
def dying_at(at: int, monkeypatch: Any) -> Iterator[Fault]:
    """Breaks the connection of the `at`-th conversation of this process."""
    fault = Fault(at)
    wait, wait_async = psycopg.Connection.wait, psycopg.AsyncConnection.wait

    def dying(self: Any, gen: Any, *args: Any, **kwargs: Any) -> Any:
        result = wait(self, gen, *args, **kwargs)
        fault.strike(self)
        return result

    async def dying_async(self: Any, gen: Any, *args: Any, **kwargs: Any) -> Any:
        result = await wait_async(self, gen, *args, **kwargs)
        fault.strike(self)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(psycopg.Connection, "wait", dying)
        patch.setattr(psycopg.AsyncConnection, "wait", dying_async)
        yield fault
