"""Times that are counted in buckets say what the times themselves would, to within a bucket."""

from __future__ import annotations

from bisect import bisect_left
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventferry import timing
from eventferry.timing import BOUNDS_S, NONE, Timing

TIMES = st.lists(st.floats(0, 2 * BOUNDS_S[-1]), min_size=1, max_size=200)


def test_the_bounds_are_what_stores_have_counted_by() -> None:
    assert (
        *(0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05),
        *(0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50),
    ) == BOUNDS_S


@pytest.mark.parametrize(
    ("call_s", "bucket"), [(0.0, 0), (0.0001, 0), (0.00011, 1), (50.0, 17), (50.1, 18)]
)
def test_a_call_falls_into_the_first_bucket_that_holds_it(call_s: float, bucket: int) -> None:
    counts = timing.of([call_s]).counts
    assert counts == tuple(int(n == bucket) for n in range(len(BOUNDS_S) + 1))


def test_of_no_calls_nothing_is_said() -> None:
    assert timing.of([]).percentile(0.5) is None
    assert NONE.percentile(0.5) is None
    assert (NONE.calls, NONE.sum_s) == (0, 0.0)


@given(TIMES, st.floats(0, 1))
def test_a_percentile_is_in_the_bucket_of_the_true_one(calls_s: list[float], share: float) -> None:
    found = timing.of(calls_s).percentile(share)
    true = sorted(calls_s)[max(0, ceil(share * len(calls_s)) - 1)]
    assert found is not None
    bucket = bisect_left(BOUNDS_S, true)
    lower = BOUNDS_S[bucket - 1] if bucket else 0.0
    upper = BOUNDS_S[min(bucket, len(BOUNDS_S) - 1)]
    assert lower <= found <= upper or found == pytest.approx(upper)


@given(TIMES)
def test_percentiles_rise_with_the_share(calls_s: list[float]) -> None:
    timed = timing.of(calls_s)
    found = [timed.percentile(n / 20) or 0.0 for n in range(21)]
    assert found == sorted(found)


@given(TIMES, TIMES)
def test_a_sum_is_that_of_all_calls(some: list[float], others: list[float]) -> None:
    both = timing.of(some) + timing.of(others)
    assert both.counts == timing.of(some + others).counts
    assert both.sum_s == pytest.approx(sum(some + others))
    assert both == sum([timing.of(some), timing.of(others)], NONE)


def test_buckets_that_are_missing_are_empty() -> None:
    assert Timing((1,), 0.1) + Timing((1, 2), 0.2) == Timing((2, 2), 0.1 + 0.2)
