"""Writers that append all the time, while something else is done to the store."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event as Signal
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql

from eventferry import Event, EventStore
from tests.services import query

PACE_S = 0.003
"""Between two transactions of a writer: the readers share the machine with it."""

Append = Callable[[psycopg.Connection[Any], str], object]


def append(conn: psycopg.Connection[Any], stream: str) -> None:
    """With the store, in the writer's transaction."""
    EventStore().append(stream, Event("Appended"), connection=conn)


def insert(conn: psycopg.Connection[Any], stream: str) -> None:
    """As any other client does."""
    table = sql.Identifier("streams", stream)
    conn.execute(sql.SQL("INSERT INTO {} (type) VALUES ('Inserted')").format(table))


@contextmanager
def writing(url: str, stream: str, *appends: Append) -> Iterator[None]:
    """A writer for each of `appends`, until the block ends; then an error of theirs is raised.

    Their transactions are of mixed size, and some are rolled back.
    """
    stop = Signal()

    def write(append: Append, seed: int) -> None:
        chance = random.Random(seed)
        with psycopg.connect(url) as conn:
            while not stop.wait(PACE_S):
                for _ in range(chance.choice([1, 1, 2, 5])):
                    append(conn, stream)
                if chance.random() < 0.1:
                    conn.rollback()
                conn.commit()

    with ThreadPoolExecutor(len(appends)) as pool:
        writers = [pool.submit(write, each, seed) for seed, each in enumerate(appends)]
        try:
            yield
        finally:
            stop.set()
        for writer in writers:
            writer.result()


def event_ids(url: str, stream: str) -> list[UUID]:
    """What a stream has, in order."""
    table = sql.Identifier("streams", stream)
    statement = sql.SQL("SELECT id FROM {} ORDER BY position").format(table).as_string()
    return [row[0] for row in query(url, statement)]  # type: ignore[arg-type,unused-ignore]
