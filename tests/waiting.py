"""Waiting in tests: for a fact, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 30.0
"""After this long a test gives up. Far more than anything takes: it is no measurement."""


def until(condition: Callable[[], T], what: str = "") -> T:
    """Asks again and again, until the answer is true; returns it.

    Raises:
        AssertionError: it has not become true.
    """
    deadline = time.monotonic() + PATIENCE_S
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"still not so: {what or condition}; {answer!r}"
        time.sleep(0.005)
    return answer
