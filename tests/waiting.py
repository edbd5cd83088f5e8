"""Waiting in tests: for a fact, never for a time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

import psycopg

T = TypeVar("T")

PATIENCE_S = float(os.environ.get("EVENTFERRY_TEST_PATIENCE_S", "30"))
"""After this long a test gives up. Far more than anything takes: it is no measurement."""


def until(condition: Callable[[], T], what: str = "", *, patience_s: float = PATIENCE_S) -> T:
    """Asks again and again, with growing pauses, until the answer is true; returns it.

    Raises:
        AssertionError: it has not become true.
    """
    deadline = time.monotonic() + patience_s
    pause_s = 0.002
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"still not so: {what or condition}; {answer!r}"
        time.sleep(pause_s)
        pause_s = min(0.04, pause_s * 1.2)  # whoever is waited for needs the processor
    return answer


def wait_for_lock(url: str, waiters: int = 1) -> None:
    """Returns when that many backends of the database wait for a lock."""
    statement = """
        SELECT count(*) >= %s FROM pg_stat_activity
         WHERE datname = current_database() AND wait_event_type = 'Lock'"""
    with psycopg.connect(url, autocommit=True) as conn:
        until(
            lambda: (conn.execute(statement, (waiters,)).fetchone() or (False,))[0],
            f"{waiters} backend(s) wait for a lock",
        )
