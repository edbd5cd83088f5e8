"""A process of service users that writes: its own rows and the events, in one transaction.

    python -m eventferry.demo.writer URL STREAM EVENTS JOURNAL [PACE]

Without a pace it writes as fast as it can, in transactions of mixed size, some of which stay open
for a moment, while others are rolled back: what makes a reader of `position > last` miss events.
With one it writes one event a transaction, every so many seconds on average.
"""

from __future__ import annotations

import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import psycopg

from eventferry import cloudevent
from eventferry._uuid import uuid7
from eventferry.demo import journal
from eventferry.event import Event
from eventferry.store import EventStore

SIZES = (1, 1, 1, 2, 3, 5, 8, 20)
"""Events a transaction, each as likely."""
ROLLED_BACK = 0.04
"""The share of the transactions that fail at first, and are then done again."""
HELD_OPEN = 0.15
"""The share of the transactions that stay open while their service does something else,"""
HELD_S = (0.002, 0.015)
"""for so long."""

SAVE_USER = """
INSERT INTO users (id, email) VALUES (%s, %s)
ON CONFLICT (id) DO UPDATE
SET email = coalesce(excluded.email, users.email), events = users.events + 1
"""


class PaymentFailedError(Exception):
    """Something of the business goes wrong: the transaction is rolled back."""


@dataclass(slots=True, kw_only=True)
class Writer:
    """Writes to one database, and to one journal."""

    connection: psycopg.Connection[Any]
    stream: str
    journal: IO[str]
    versions: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Of the entities that it has written."""

    def write_fast(self, events: Sequence[Event]) -> None:
        """All of the events, in transactions of mixed size."""
        for batch in _cut(events):
            if random.random() < ROLLED_BACK:
                with suppress(PaymentFailedError):
                    self.write([replace(event, id=uuid7()) for event in batch], fails=True)
            self.write(batch, held_s=random.uniform(*HELD_S) * (random.random() < HELD_OPEN))

    def write_slowly(self, events: Sequence[Event], pace_s: float) -> None:
        """All of the events, one by one."""
        for event in events:
            time.sleep(random.uniform(0, 2 * pace_s))
            self.write([event])

    def write(self, events: Sequence[Event], *, held_s: float = 0, fails: bool = False) -> None:
        """One transaction, noted when it has ended.

        Raises:
            PaymentFailedError: it was to fail, and has been rolled back.
        """
        begun_at = time.time()
        try:
            with self.connection.transaction():
                appended = [self._append(group) for group in _by_entity(events)]
                time.sleep(held_s)
                if fails:
                    raise PaymentFailedError
        except PaymentFailedError:
            journal.note(self.journal, events, committed=False, begun_at=begun_at)
            raise
        for entity, count in appended:
            self.versions[entity] += count
        journal.note(self.journal, events, committed=True, begun_at=begun_at)

    def _append(self, events: list[Event]) -> tuple[str, int]:
        entity = events[0].entity_id
        store = EventStore()  # without a database of its own: it appends to the caller's
        if entity is None:
            store.append(self.stream, events, connection=self.connection)
            return "", 0
        email = events[-1].data.get("email")
        self.connection.execute(SAVE_USER, (entity, email))
        store.append(
            self.stream,
            events,
            expected_version=self.versions[entity],
            connection=self.connection,
        )
        return entity, len(events)


def _cut(events: Sequence[Event]) -> Iterator[Sequence[Event]]:
    begin = 0
    while begin < len(events):
        size = random.choice(SIZES)
        yield events[begin : begin + size]
        begin += size


def _by_entity(events: Sequence[Event]) -> list[list[Event]]:
    groups: dict[str | None, list[Event]] = defaultdict(list)
    for event in events:
        groups[event.entity_id].append(event)
    return list(groups.values())


def main(url: str, stream: str, lines: str, noted: str, pace_s: str = "") -> None:
    """What the process does."""
    events = [cloudevent.parse(line).event for line in Path(lines).read_text().splitlines()]
    with psycopg.connect(url, autocommit=True) as conn, Path(noted).open("x") as file:
        writer = Writer(connection=conn, stream=stream, journal=file)
        if pace_s:
            writer.write_slowly(events, float(pace_s))
        else:
            writer.write_fast(events)


if __name__ == "__main__":
    main(*sys.argv[1:])
