"""The limits of psycopg: the same rows without any library. Imported in other environments too."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from benchmarks.peers.serving import Answer, Step, in_threads

GIVEN = "id, type, entity_id, version, data, metadata"
INSERT = f"INSERT INTO plain ({GIVEN}) VALUES (%s::uuid, %s::text, %s::text, %s::int4, %s::json, %s::json)"
COPY = f"COPY plain ({GIVEN}) FROM STDIN (FORMAT BINARY)"
TYPES = ("uuid", "text", "text", "int4", "text", "text")
EFFECT = "INSERT INTO {} (event_id, entity_id, type) VALUES (%s, %s, %s)"
BATCH = 1000

CLIENT = f"psycopg {psycopg.__version__}"


def insert(url: str, sample: Answer, writers: int, size: int, seconds: float) -> Answer:
    """One row a transaction by INSERT, many by binary COPY."""
    data, metadata = json.dumps(sample["data"]), json.dumps(sample["metadata"])

    def rows(count: int) -> list[tuple[Any, ...]]:
        entity = str(uuid.uuid4())
        head = (sample["type"], entity)
        return [(uuid.uuid4(), *head, number + 1, data, metadata) for number in range(count)]

    @contextmanager
    def prepare(_number: int) -> Iterator[Step]:
        with psycopg.connect(url, autocommit=True) as conn:

            def one() -> int:
                conn.execute(INSERT, rows(1)[0])
                return 1

            def many() -> int:
                with conn.cursor() as cursor, cursor.copy(COPY) as copy:
                    copy.set_types(TYPES)
                    for row in rows(size):
                        copy.write_row(row)
                return size

            yield one if size == 1 else many

    return in_threads(writers, seconds, prepare)


def effects(url: str, sample: Answer, seconds: float) -> Answer:
    """One INSERT an event, pipelined."""
    statement, kind = EFFECT.format("bare_effects"), sample["type"]
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("TRUNCATE bare_effects")
        count, begun = 0, time.monotonic()
        while time.monotonic() < begun + seconds:
            rows = [(str(uuid.uuid4()), "entity", kind) for _ in range(BATCH)]
            with conn.transaction(), conn.cursor() as cursor:
                cursor.executemany(statement, rows)
            count += BATCH
        return {"events": count, "seconds": time.monotonic() - begun}


class OnPsycopg:
    """What peers on psycopg have in common: their limits."""

    url: str
    sample: Answer

    def bare(self, writers: int, size: int, seconds: float) -> Answer:
        return insert(self.url, self.sample, writers, size, seconds)

    def bare_effects(self, seconds: float) -> Answer:
        return effects(self.url, self.sample, seconds)
