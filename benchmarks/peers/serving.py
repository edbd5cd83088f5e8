"""The peers' side of the protocol: reads what is asked, a line of JSON each, and answers so.

Imported in the environments of other libraries: nothing but the standard library here.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

Answer = dict[str, Any]
Step = Callable[[], int]
"""Commits something, and tells how many events that were."""
Purpose = Literal["backlog", "live", "closely"]
"""To catch up, to follow with the library's defaults, or as soon as it can be had."""
OPEN_S = (0.001, 0.008)
"""How long transactions of `contend` stay open, where the library lets them do other work."""
ROLLED_BACK = 0.1
"""How many of them are rolled back."""


class Peer(Protocol):
    """What each of them can do. Whatever is asked is a method with these arguments."""

    def hello(self) -> Answer:
        """`client` (its driver and version), `guarantee` (of catching up), `how` (it is used)."""

    def set_up(self, url: str, sample: Answer) -> Answer:
        """Prepares an empty database; `events`: a query for the ids of all events in it."""

    def open(self, url: str, sample: Answer) -> None:
        """Takes a database that another process has prepared."""

    def append(self, writers: int, size: int, seconds: float) -> Answer:
        """Appends `size` events a call for so long; `events` and `seconds` of it."""

    def bare(self, writers: int, size: int, seconds: float) -> Answer:
        """The same rows into the table `plain`, by the same client alone."""

    def bare_effects(self, seconds: float) -> Answer:
        """One INSERT an event into `bare_effects`, 1,000 a transaction, by the same client alone."""

    def follow(self, name: str, purpose: Purpose) -> None:
        """Begins to write an effect of each event, from the first one on."""

    def stop(self) -> None:
        """Ends that."""

    def one(self) -> Answer:
        """Appends one event; `begun`: when, by the system's monotonic clock."""

    def contend(self, writers: int, seconds: float) -> Answer:
        """Appends in transactions that take some ms, one of ten rolled back; `committed` events."""


def serve(peer: Peer) -> None:
    """Answers until nobody asks any more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = getattr(peer, asked.pop("do"))(**asked) or {}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)
    os._exit(0)  # whatever still follows or waits


def in_threads(
    writers: int, seconds: float, prepare: Callable[[int], AbstractContextManager[Step]]
) -> Answer:
    """So many threads that repeat their step until the time is up."""
    counts, failures, begun, ended = [0] * writers, list[BaseException](), [0.0], [0.0]

    def start() -> None:
        begun[0] = time.monotonic()

    ready = threading.Barrier(writers, action=start)

    def write(number: int) -> None:
        try:
            with prepare(number) as step:
                ready.wait()
                while time.monotonic() < begun[0] + seconds:
                    counts[number] += step()
                ended[0] = max(ended[0], time.monotonic())
        except BaseException as error:
            ready.abort()
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return {"events": sum(counts), "seconds": ended[0] - begun[0]}
