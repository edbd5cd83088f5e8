"""eventferry itself, from the source tree: `append`, and a worker with one projection."""

from __future__ import annotations

import asyncio
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path
from types import MappingProxyType

import psycopg

from benchmarks.peers import bare_psycopg
from benchmarks.peers.serving import OPEN_S, ROLLED_BACK, Answer, Purpose, Step, in_threads, serve
from eventferry import Context, Event, EventStore, RecordedEvent, migrate
from eventferry.config import Config
from eventferry.handler import handler_of
from eventferry.projection import Projection
from eventferry.worker import Worker

STREAM = "users-stream"
EFFECT = bare_psycopg.EFFECT.format("effects")


def handle(event: RecordedEvent, context: Context) -> None:
    _ = event.data, event.metadata  # decoded, as other handlers are given them
    context.execute(EFFECT, (str(event.id), event.entity_id, event.type))


class EventFerry(bare_psycopg.OnPsycopg):
    """Appends to one stream of a local store; a worker handles its events there."""

    def __init__(self) -> None:
        self._numbers = count()
        self._prefix = random.randbytes(6).hex()

    def hello(self) -> Answer:
        return {
            "client": bare_psycopg.CLIENT,
            "guarantee": "exactly once: effect and checkpoint commit together",
            "how": "EventStore.append, expected_version=0; a worker, a handler with context.execute",
        }

    def set_up(self, url: str, sample: Answer) -> Answer:
        self.url, self.sample = url, sample
        migrate(url, kind="local", service="bench")
        self._store = EventStore(url)
        self._store.create_stream(STREAM)
        return {"events": f'SELECT id::text FROM streams."{STREAM}"'}

    def open(self, url: str, sample: Answer) -> None:
        self.url, self.sample = url, sample
        self._store = EventStore(url)

    def append(self, writers: int, size: int, seconds: float) -> Answer:
        @contextmanager
        def prepare(_number: int) -> Iterator[Step]:
            def step() -> int:
                self._store.append(STREAM, self._events(size), expected_version=0)
                return size

            yield step

        return in_threads(writers, seconds, prepare)

    def follow(self, name: str, purpose: Purpose) -> None:
        self._loop = asyncio.new_event_loop()
        self._worker = Worker(config=self._config(name), projections=[self._projection(name)])
        self._following = threading.Thread(
            target=self._loop.run_until_complete, args=(self._worker.run(),)
        )
        self._following.start()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._worker.stop)
        self._following.join()
        self._loop.close()

    def one(self) -> Answer:
        begun = time.monotonic()
        self._store.append(STREAM, self._events(1), expected_version=0)
        return {"begun": begun}

    def contend(self, writers: int, seconds: float) -> Answer:
        @contextmanager
        def prepare(number: int) -> Iterator[Step]:
            chance = random.Random(number)
            with psycopg.connect(self.url) as conn:

                def step() -> int:
                    self._store.append(STREAM, self._events(1), connection=conn)
                    conn.execute("SELECT pg_sleep(%s)", (chance.uniform(*OPEN_S),))
                    if chance.random() < ROLLED_BACK:
                        conn.rollback()
                        return 0
                    conn.commit()
                    return 1

                yield step

        return in_threads(writers, seconds, prepare)

    def _events(self, size: int) -> list[Event]:
        entity = f"{self._prefix}-{next(self._numbers)}"
        kind, data, metadata = (self.sample[key] for key in ("type", "data", "metadata"))
        return [Event(kind, data, entity_id=entity, metadata=metadata) for _ in range(size)]

    def _projection(self, name: str) -> Projection:
        return Projection(
            name=f"{name}-projection",
            kind="consuming",
            streams=(STREAM,),
            environment="local",
            handler=handler_of(handle, "benchmarks.peers.eventferry_peer:handle"),
        )

    def _config(self, name: str) -> Config:
        projection = self._projection(name)
        return Config(
            service="bench",
            path=Path(tempfile.gettempdir()) / "projections.toml",
            local_url=self.url,
            shared_url=self.url,
            local_listen_url=self.url,
            shared_listen_url=self.url,
            poll_interval=timedelta(seconds=1),
            projections=MappingProxyType({projection.name: projection}),
        )


if __name__ == "__main__":
    serve(EventFerry())
