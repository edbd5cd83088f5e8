"""Writers of a service, and what they know of what they have appended."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

import psycopg
from psycopg import sql

from eventferry import Event, EventStore, StoreUnavailable, VersionConflict

Outcome = Literal["committed", "rolled back", "unknown"]

ENTITIES = 20
PACE_S = 0.15
"""Between two transactions of a writer: handlers must keep up with all of them."""


class Ledger:
    """What is known to be committed, and what not to be; the rest only the store knows."""

    def __init__(self) -> None:
        self.outcomes: dict[UUID, Outcome] = {}
        self._lock = threading.Lock()

    @contextmanager
    def transaction(self, url: str, *, commits: bool) -> Iterator[Transaction]:
        """A transaction on a connection of its own, whose appends are remembered."""
        transaction: Transaction | None = None
        outcome: Outcome = "rolled back"
        try:
            with psycopg.connect(url) as conn:
                transaction = Transaction(conn)
                yield transaction
                if commits:
                    outcome = "unknown"  # until its answer has come
                    conn.commit()
                    outcome = "committed"
                else:
                    conn.rollback()
        finally:
            if transaction is not None:
                self._write(transaction, outcome)

    def _write(self, transaction: Transaction, outcome: Outcome) -> None:
        with self._lock:
            for id_ in transaction.appended:
                self.outcomes[id_] = outcome
            for id_ in transaction.taken_back:
                self.outcomes[id_] = "rolled back"

    def count(self) -> Counter[Outcome]:
        return Counter(self.outcomes.values())


@dataclass
class Transaction:
    """An open transaction of a writer."""

    conn: psycopg.Connection[Any]
    appended: list[UUID] = field(default_factory=list)
    taken_back: list[UUID] = field(default_factory=list)
    """Appended behind a savepoint that was rolled back to."""

    def append(self, stream: str, event: Event, version: int | None = None) -> None:
        EventStore().append(stream, event, expected_version=version, connection=self.conn)
        self.appended.append(event.id)

    def insert(self, stream: str, event: Event) -> None:
        """As any other client does."""
        table = sql.Identifier("streams", stream)
        statement = sql.SQL("INSERT INTO {} (id, type) VALUES (%s, %s)").format(table)
        self.conn.execute(statement, (event.id, event.type))
        self.appended.append(event.id)

    def append_and_take_back(self, stream: str, event: Event) -> None:
        self.conn.execute("SAVEPOINT before")
        EventStore().append(stream, event, connection=self.conn)
        self.taken_back.append(event.id)
        self.conn.execute("ROLLBACK TO before")


@dataclass
class Writer:
    """Appends to a stream, in transactions of all kinds, until it is told to stop."""

    url: str
    stream: str
    ledger: Ledger
    chance: random.Random
    stopping: threading.Event
    versions: dict[str, int] = field(default_factory=dict)
    """Of the entities, as far as it knows: other writers have them too."""

    def run(self) -> None:
        while not self.stopping.wait(PACE_S * self.chance.uniform(0.5, 1.5)):
            commits = self.chance.random() > 0.1
            with (
                suppress(psycopg.OperationalError, StoreUnavailable),
                self.ledger.transaction(self.url, commits=commits) as transaction,
            ):
                for _ in range(self.chance.choice([1, 1, 1, 2, 5])):
                    self._append(transaction)
                time.sleep(self.chance.choice([0, 0, 0.02]))

    def _append(self, transaction: Transaction) -> None:
        kind = self.chance.random()
        if kind < 0.15:
            transaction.insert(self.stream, Event("Inserted"))
        elif kind < 0.25:
            transaction.append_and_take_back(self.stream, Event("TakenBack"))
        elif kind < 0.35:
            transaction.append(self.stream, Event("Unversioned", entity_id=self._entity()))
        else:
            self._append_version(transaction, self._entity())

    def _append_version(self, transaction: Transaction, entity: str) -> None:
        version = self.versions.get(entity, 0)
        try:
            transaction.append(self.stream, Event("Versioned", entity_id=entity), version)
        except VersionConflict as conflict:  # by another writer, or a transaction that was lost
            self.versions[entity] = conflict.actual
        else:
            self.versions[entity] = version + 1

    def _entity(self) -> str:
        return str(self.chance.randrange(ENTITIES))
