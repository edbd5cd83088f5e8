"""Memory does not grow with what there is to read: neither the stream nor the backlog."""

from __future__ import annotations

import base64
import random
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from eventferry import Context, End, Event, RecordedEvent
from eventferry.store._row import PAGE_BYTES
from tests.conftest import MakeService
from tests.memory import resident_kb
from tests.services import Service, record

pytestmark = pytest.mark.once

STREAM = "users-stream"
A_LITTLE_KB = 8_000
"""Room for what an allocator does; a hundredth of a million events."""

counts = pytest.mark.parametrize(
    "count", [100_000, pytest.param(1_000_000, marks=[pytest.mark.soak, pytest.mark.timeout(600)])]
)


@pytest.fixture
def users(make_service: MakeService) -> Service:
    users = make_service("users")
    users.create_stream(STREAM)
    return users


def fill(service: Service, count: int) -> None:
    """Events of some hundred bytes each."""
    with psycopg.connect(service.local_url) as conn:
        conn.execute(
            """
            INSERT INTO streams."users-stream" (type, data)
            SELECT 'Numbered', json_build_object('n', n, 'text', repeat('x', 200))
              FROM generate_series(1, %s) AS n
            """,
            (count,),
        )


class Memory:
    """What the process takes from the first tenth of the events on, looked at now and then."""

    def __init__(self, count: int) -> None:
        self.seen = 0
        self._every = count // 10
        self._kb: list[int] = []

    def see(self) -> None:
        self.seen += 1
        if self.seen % self._every == 0:
            self._kb.append(resident_kb())

    @property
    def growth_kb(self) -> int:
        first, *later = self._kb
        return max(later) - first


@counts
def test_memory_is_flat_while_a_stream_is_read(users: Service, count: int) -> None:
    fill(users, count)
    memory = Memory(count)
    for event in users.local.read(STREAM):
        assert event.data["n"] == memory.seen + 1
        memory.see()
    assert memory.seen == count
    assert memory.growth_kb < A_LITTLE_KB


@counts
def test_memory_is_flat_while_a_projection_works_off_a_backlog(users: Service, count: int) -> None:
    fill(users, count)
    memory = Memory(count)

    def handle(event: RecordedEvent) -> None:
        assert event.data["n"] == memory.seen + 1
        memory.see()

    users.consuming("reader", handle, STREAM)
    assert users.run("reader").end is End.CAUGHT_UP
    assert memory.seen == count
    assert memory.growth_kb < A_LITTLE_KB


# ---- large events


def large(n: int, size: int) -> Event:
    """An event of that many bytes, which can't be compressed."""
    text = base64.b64encode(random.Random(n).randbytes(size * 3 // 4)).decode()
    return Event("Even" if n % 2 == 0 else "Odd", {"n": n, "text": text})


SIZES = [0, PAGE_BYTES, 0, PAGE_BYTES * 2, PAGE_BYTES, 0, 0, *[PAGE_BYTES // 2] * 5, 0, PAGE_BYTES]
"""Pages that are filled by one event, by two, by a small one after a large one."""


def numbers(events: Iterator[RecordedEvent]) -> list[int]:
    return [event.data["n"] for event in events]


def test_pages_that_are_filled_by_large_events_are_read_exactly(users: Service) -> None:
    for n, size in enumerate(SIZES):
        users.append(STREAM, large(n, size))
    every = list(range(len(SIZES)))
    store = users.local
    assert numbers(store.read(STREAM)) == every
    assert numbers(store.read(STREAM, backwards=True)) == every[::-1]
    assert numbers(store.read(STREAM, types=["Odd"])) == every[1::2]
    assert numbers(store.read(STREAM, types=["Odd"], backwards=True)) == every[1::2][::-1]
    for limit in (1, 2, 5, len(SIZES) - 1):
        assert numbers(store.read(STREAM, limit=limit)) == every[:limit]
        assert numbers(store.read(STREAM, limit=limit, backwards=True)) == every[::-1][:limit]


@pytest.mark.parametrize("batch_size", [1, 2, 500])
def test_projections_handle_and_ferry_large_events_once_and_in_order(
    users: Service, batch_size: int
) -> None:
    users.create_effects()
    users.create_stream("others-stream")
    users.consuming("one", record, STREAM, batch_size=batch_size)
    users.consuming("two", record, "others-stream", STREAM, batch_size=batch_size)
    users.producing("ferry", STREAM, batch_size=batch_size)
    every = list(range(len(SIZES)))
    for n, size in enumerate(SIZES):
        users.append(STREAM if n % 3 else "others-stream", large(n, size))
    for name in ("one", "two", "ferry"):
        assert users.run(name).end is End.CAUGHT_UP
    assert users.recorded("two") == every
    assert users.recorded("one") == [n for n in every if n % 3]
    assert numbers(users.shared.read(STREAM)) == [n for n in every if n % 3]


@contextmanager
def a_few_pages() -> Iterator[None]:
    """What is in here takes no more memory than a few pages of large events."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * PAGE_BYTES


def test_of_many_large_events_only_some_are_in_memory(users: Service) -> None:
    for n in range(50):
        users.append(STREAM, large(n, 1_000_000))

    def handle(event: RecordedEvent, context: Context) -> None:
        assert event.data["text"]

    users.consuming("reader", handle, STREAM)
    users.producing("ferry", STREAM)
    with a_few_pages():
        for event in users.local.read(STREAM):
            assert event.data["text"]
    for name in ("reader", "ferry"):
        with a_few_pages():
            assert users.run(name).handled == 50
