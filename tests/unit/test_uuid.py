"""`uuid7()`: versions, order, threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from time import time
from uuid import UUID

from eventferry._uuid import uuid7


def many() -> list[UUID]:
    return [uuid7() for _ in range(20_000)]


def test_an_id_is_a_standard_uuid_of_version_7() -> None:
    assert type(uuid7()) is UUID
    assert uuid7().version == 7


def test_an_id_begins_with_the_time_in_milliseconds() -> None:
    before = int(time() * 1000)
    # The counter may run some milliseconds ahead of the clock, never behind it.
    assert before <= uuid7().int >> 80 <= before + 10_000


def test_ids_of_one_thread_are_strictly_increasing() -> None:
    assert all(a < b for a, b in pairwise(many()))


def test_ids_of_several_threads_are_increasing_in_each_and_all_different() -> None:
    with ThreadPoolExecutor(4) as pool:
        made = [future.result() for future in [pool.submit(many) for _ in range(4)]]
    assert all(a < b for ids in made for a, b in pairwise(ids))
    assert len(set().union(*made)) == 4 * 20_000
