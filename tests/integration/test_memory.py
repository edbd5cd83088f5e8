"""Memory does not grow with what there is to read: neither the stream nor the backlog."""

from __future__ import annotations

import psycopg
import pytest

from eventferry import End, RecordedEvent
from tests.conftest import MakeService
from tests.memory import resident_kb
from tests.services import Service

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
