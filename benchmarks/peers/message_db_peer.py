"""message-db: its SQL functions, called by psycopg.

It has no consumer of its own in Python: `follow` is the loop that its guide describes, with the
position in the transaction of the effects.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.peers import bare_psycopg
from benchmarks.peers.serving import OPEN_S, ROLLED_BACK, Answer, Purpose, Step, in_threads, serve

DATABASE = Path(os.environ["PEER_FOLDER"], "node_modules/@eventide/message-db/database")
# In the order of install.sh, without the role, the views and the extension, which nothing here
# needs: PostgreSQL has had gen_random_uuid() itself since version 13.
INSTALL = (
    "schema/message-store.sql",
    "tables/messages.sql",
    "types/message.sql",
    *(
        f"functions/{name}.sql"
        for name in (
            *("message-store-version", "hash-64", "acquire-lock", "category", "is-category", "id"),
            *("cardinal-id", "stream-version", "write-message", "get-stream-messages"),
            *("get-category-messages", "get-last-stream-message"),
        )
    ),
    *(f"indexes/messages-{name}.sql" for name in ("id", "stream", "category")),
)
CATEGORY = "user"
WRITE = "SELECT write_message(%s, %s, %s, %s::jsonb, %s::jsonb, %s)"
READ = "SELECT * FROM get_category_messages(%s, %s, 1000)"
POSITION = "SELECT data FROM get_last_stream_message(%s)"
EFFECT = bare_psycopg.EFFECT.format("effects")
POLL_S = 0.001


class MessageDb(bare_psycopg.OnPsycopg):
    """Streams of one category, `user`: its lock is what keeps the order of the positions."""

    def hello(self) -> Answer:
        return {
            "client": bare_psycopg.CLIENT,
            "guarantee": "of the loop written here: exactly once, if it runs only once",
            "how": "write_message, pipelined; get_category_messages, 1,000 at a time, each ms",
        }

    def set_up(self, url: str, sample: Answer) -> Answer:
        self.open(url, sample)
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("CREATE SCHEMA IF NOT EXISTS message_store")
            conn.execute("SET search_path TO message_store, public")
            for name in INSTALL:
                conn.execute((DATABASE / name).read_bytes())
        return {
            "events": "SELECT id::text FROM message_store.messages"
            f" WHERE stream_name LIKE '{CATEGORY}-%'"
        }

    def open(self, url: str, sample: Answer) -> None:
        self.url, self.sample = url, sample

    def append(self, writers: int, size: int, seconds: float) -> Answer:
        @contextmanager
        def prepare(_number: int) -> Iterator[Step]:
            with self._connected() as conn:

                def one() -> int:
                    self._write(conn, 1)
                    return 1

                def many() -> int:
                    with conn.pipeline(), conn.transaction():
                        self._write(conn, size)
                    return size

                yield one if size == 1 else many

        return in_threads(writers, seconds, prepare)

    def follow(self, name: str, purpose: Purpose) -> None:
        self._stopping = threading.Event()
        self._following = threading.Thread(target=self._follow, args=(name,))
        self._following.start()

    def stop(self) -> None:
        self._stopping.set()
        self._following.join()

    def one(self) -> Answer:
        with self._connected() as conn:
            begun = time.monotonic()
            self._write(conn, 1)
            return {"begun": begun}

    def contend(self, writers: int, seconds: float) -> Answer:
        @contextmanager
        def prepare(number: int) -> Iterator[Step]:
            chance = random.Random(number)
            with self._connected() as conn:

                def step() -> int:
                    is_kept = chance.random() >= ROLLED_BACK
                    with conn.transaction(force_rollback=not is_kept):
                        self._write(conn, 1)
                        conn.execute("SELECT pg_sleep(%s)", (chance.uniform(*OPEN_S),))
                    return int(is_kept)

                yield step

        return in_threads(writers, seconds, prepare)

    def _write(self, conn: psycopg.Connection[Any], size: int) -> None:
        stream = f"{CATEGORY}-{uuid.uuid4()}"
        for number in range(size):
            texts = (json.dumps(self.sample[key]) for key in ("data", "metadata"))
            row = (str(uuid.uuid4()), stream, self.sample["type"], *texts, number - 1)
            conn.execute(WRITE, row)

    def _follow(self, name: str) -> None:
        """Looks each ms; the effects of a batch and the position are one pipelined transaction."""
        with self._connected() as conn:
            stream = f"{CATEGORY}:position-{name}"
            row = conn.execute(POSITION, (stream,)).fetchone()
            after = json.loads(row[0])["position"] if row else 0
            while not self._stopping.is_set():
                messages = conn.execute(READ, (CATEGORY, after + 1)).fetchall()
                if messages:
                    with conn.pipeline(), conn.transaction():
                        self._handle(conn, stream, messages)
                    after = messages[-1][4]
                else:
                    time.sleep(POLL_S)

    def _handle(
        self, conn: psycopg.Connection[Any], stream: str, messages: list[tuple[Any, ...]]
    ) -> None:
        rows = []
        for number, name, kind, _, _, data, metadata, _ in messages:
            json.loads(data), json.loads(metadata)  # what a handler is given
            rows.append((number, name, kind))
        with conn.cursor() as cursor:
            cursor.executemany(EFFECT, rows)
        position = json.dumps({"position": messages[-1][4]})
        conn.execute(WRITE, (str(uuid.uuid4()), stream, "Recorded", position, None, None))

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[Any]]:
        path = "-c search_path=message_store,public"
        with psycopg.connect(self.url, autocommit=True, options=path) as conn:
            yield conn


if __name__ == "__main__":
    serve(MessageDb())
