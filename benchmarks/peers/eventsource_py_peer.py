"""eventsource-py: `PostgreSQLEventStore.append`, and a subscription of its manager.

What follows live gets events from a bus. The one that needs nothing but PostgreSQL works inside the
process that publishes, so this peer follows in the process that writes.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg
from eventsource import (
    DomainEvent,
    DuplicateEventError,
    ExpectedVersion,
    InMemoryEventBus,
    PostgreSQLEventStore,
    SQLCheckpointRepository,
    StreamId,
    create_async_engine,
    register_event,
)
from eventsource.application.subscriptions import SubscriptionConfig, SubscriptionManager
from eventsource.migrations import get_all_schemas
from sqlalchemy import text

from benchmarks.peers.serving import ROLLED_BACK, Answer, Purpose, serve

GIVEN = ("id", "type", "entity_id", "version", "data", "metadata")
INSERT = f"INSERT INTO plain ({', '.join(GIVEN)}) VALUES ($1, $2, $3, $4, $5, $6)"
COLUMNS = "(event_id, entity_id, type)"
BARE_EFFECT = f"INSERT INTO bare_effects {COLUMNS} VALUES ($1, $2, $3)"
EFFECT = text(f"INSERT INTO effects {COLUMNS} VALUES (:event, :entity, :type)")
BATCH = 1000
CATEGORY = "User"
T = TypeVar("T")


@register_event
class UserRegistered(DomainEvent):
    event_type: str = "UserRegistered"
    aggregate_type: str = CATEGORY
    data: dict[str, Any]


class Effects:
    """A subscriber with one INSERT an event."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def subscribed_to(self) -> list[type[Any]]:
        return [UserRegistered]

    async def handle(self, event: Any) -> None:
        row = {"event": str(event.event_id), "entity": str(event.aggregate_id)}
        async with self._engine.begin() as conn:
            await conn.execute(EFFECT, row | {"type": event.event_type})


class EventSourcePy:
    """All on one loop, beside the thread that is asked."""

    def __init__(self) -> None:
        self._taken: uuid.UUID | None = None
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def hello(self) -> Answer:
        return {
            "client": f"asyncpg {asyncpg.__version__}",
            "guarantee": "at least once: a checkpoint after each batch; live, in-process, none",
            "how": "PostgreSQLEventStore.append; SubscriptionManager, 1,000 a batch; in-memory bus",
            "follows_itself": True,
        }

    def set_up(self, url: str, sample: Answer) -> Answer:
        self.url, self.sample = url, sample
        self._texts = [json.dumps(sample[key]) for key in ("data", "metadata")]
        parts = urlsplit(url)
        sqlalchemy_url = parts._replace(scheme="postgresql+asyncpg").geturl()
        self._engine = create_async_engine(sqlalchemy_url, pool_size=16)
        self._store = PostgreSQLEventStore(self._engine)
        self._bus = InMemoryEventBus()
        self._run(self._create_schema())
        return {"events": "SELECT event_id::text FROM events"}

    def open(self, url: str, sample: Answer) -> None:
        raise NotImplementedError("it follows in the process that writes")

    def append(self, writers: int, size: int, seconds: float) -> Answer:
        async def step(_number: int) -> int:
            await self._append(self._events(size))
            return size

        return self._run(_together(writers, seconds, step))

    def bare(self, writers: int, size: int, seconds: float) -> Answer:
        async def measure() -> Answer:
            clients = [await asyncpg.connect(self.url) for _ in range(writers)]

            def rows(count: int) -> list[tuple[Any, ...]]:
                head = (self.sample["type"], str(uuid.uuid4()))
                return [(uuid.uuid4(), *head, n + 1, *self._texts) for n in range(count)]

            async def one(number: int) -> int:
                await clients[number].execute(INSERT, *rows(1)[0])
                return 1

            async def many(number: int) -> int:
                await clients[number].copy_records_to_table(
                    "plain", records=rows(size), columns=GIVEN
                )
                return size

            try:
                return await _together(writers, seconds, one if size == 1 else many)
            finally:
                for client in clients:
                    await client.close()

        return self._run(measure())

    def bare_effects(self, seconds: float) -> Answer:
        async def measure() -> Answer:
            client = await asyncpg.connect(self.url)
            await client.execute("TRUNCATE bare_effects")

            async def step(_number: int) -> int:
                kind = self.sample["type"]
                rows = [(str(uuid.uuid4()), "entity", kind) for _ in range(BATCH)]
                await client.executemany(BARE_EFFECT, rows)  # one transaction, pipelined
                return BATCH

            try:
                return await _together(1, seconds, step)
            finally:
                await client.close()

        return self._run(measure())

    def follow(self, name: str, purpose: Purpose) -> None:
        async def begin() -> None:
            self._manager = SubscriptionManager(
                self._store, self._bus, SQLCheckpointRepository(self._engine)
            )
            config = SubscriptionConfig(start_from="beginning", batch_size=1000)
            await self._manager.subscribe(Effects(self._engine), config, name=name)
            self._following = asyncio.create_task(self._manager.start())

        self._run(begin())

    def stop(self) -> None:
        async def end() -> None:
            await self._manager.stop()
            await self._following

        self._run(end())

    def one(self) -> Answer:
        async def append() -> Answer:
            events = self._events(1)
            begun = time.monotonic()
            await self._publish(events)
            return {"begun": begun}

        return self._run(append())

    def contend(self, writers: int, seconds: float) -> Answer:
        """Of several events, whose INSERTs take some ms; there is no place for other work."""

        async def step(_number: int) -> int:
            events = self._events(random.randint(1, 10))
            if random.random() < ROLLED_BACK and self._taken:
                events[-1] = events[-1].model_copy(update={"event_id": self._taken})
                try:
                    await self._append(events)
                except DuplicateEventError:
                    return 0
                raise AssertionError("an id was taken twice")
            await self._publish(events)
            self._taken = events[0].event_id
            return len(events)

        return self._run(_together(writers, seconds, step))

    async def _append(self, events: list[Any]) -> None:
        stream = StreamId(aggregate_id=events[0].aggregate_id, category=CATEGORY)
        await self._store.append(stream, events, ExpectedVersion.no_stream())

    async def _publish(self, events: list[Any]) -> None:
        """As its repository does: what is committed goes to the bus."""
        await self._append(events)
        await self._bus.publish(events)

    def _events(self, size: int) -> list[Any]:
        user = uuid.uuid4()
        return [
            UserRegistered(
                aggregate_id=user,
                aggregate_version=number + 1,
                data=self.sample["data"],
                metadata=self.sample["metadata"],
            )
            for number in range(size)
        ]

    async def _create_schema(self) -> None:
        client = await asyncpg.connect(self.url)
        # The extension is for ids by default, which its store gives itself.
        await client.execute(get_all_schemas().replace("CREATE EXTENSION", "-- "))
        await client.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def _together(writers: int, seconds: float, step: Callable[[int], Awaitable[int]]) -> Answer:
    """So many tasks that repeat their step until the time is up."""
    begun = time.monotonic()

    async def write(number: int) -> int:
        count = 0
        while time.monotonic() < begun + seconds:
            count += await step(number)
        return count

    counts = await asyncio.gather(*(write(number) for number in range(writers)))
    return {"events": sum(counts), "seconds": time.monotonic() - begun}


if __name__ == "__main__":
    serve(EventSourcePy())
