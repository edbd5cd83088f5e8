"""What a worker does after a look: a table, decided without I/O."""

from __future__ import annotations

import pytest

from eventferry.ended import End, Ended
from eventferry.step import FAILED_POLLS, OUTAGE_S, Step, Tries, next_step

POLL_S = 8.0


def step(end: End, *, asleep: bool = False, tries: int = 0, chance: float = 0.0) -> Step:
    return next_step(end, asleep=asleep, tries=tries, poll_s=POLL_S, chance=chance)


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (End.CAUGHT_UP, Step(sleep=True)),
        (End.IN_FLIGHT, Step(wait_s=0.002)),
        (End.BUSY, Step(wait_s=0.1)),
        (End.SLICED, Step(wait_s=0.0)),
        (End.STOPPED, Step(wait_s=0.0)),
        (End.WAITING, Step(wait_s=POLL_S)),
        (End.FAILED, Step(wait_s=POLL_S * FAILED_POLLS)),
    ],
)
def test_what_follows_a_look(end: End, expected: Step) -> None:
    assert step(end) == expected


def test_every_end_has_a_step() -> None:
    assert all(isinstance(step(end), Step) for end in End)


def test_nobody_sleeps_without_a_last_look() -> None:
    first = step(End.CAUGHT_UP, asleep=False)
    assert first.sleep
    last = step(End.CAUGHT_UP, asleep=True)
    assert last == Step(sleep=False, wait_s=None)


@pytest.mark.parametrize("asleep", [False, True])
@pytest.mark.parametrize("end", [end for end in End if end is not End.CAUGHT_UP])
def test_only_who_is_caught_up_sleeps_until_woken(end: End, asleep: bool) -> None:
    """Who found the checkpoint locked, or appends in flight, looks again by itself."""
    following = step(end, asleep=asleep)
    assert not following.sleep
    assert following.wait_s is not None


def test_an_append_that_stays_open_is_looked_at_ever_more_seldom_but_at_every_poll() -> None:
    waits = [step(End.IN_FLIGHT, tries=tries, asleep=True).wait_s or 0.0 for tries in range(2000)]
    assert waits == sorted(waits)
    assert waits[0] == 0.002
    assert waits[-1] == POLL_S


def test_an_append_that_stays_open_is_slept_on_so_that_the_next_ones_wake_us() -> None:
    sleeps = [step(End.IN_FLIGHT, tries=tries).sleep for tries in range(20)]
    assert sleeps == sorted(sleeps)
    assert (sleeps[0], sleeps[-1]) == (False, True)


def test_a_look_that_finds_work_begins_the_count_again() -> None:
    tries = Tries()
    for handled in (0, 0, 0, 5):
        tries.ended(Ended(End.IN_FLIGHT, handled))
    assert tries.same == 0
    tries.ended(Ended(End.IN_FLIGHT))
    assert tries.same == 1


def test_the_pause_of_an_outage_grows_to_its_limit_whatever_came_before() -> None:
    tries = Tries()
    for _ in range(5000):
        tries.ended(Ended(End.CAUGHT_UP))
    pauses = [tries.outage() for _ in range(3000)]
    assert pauses[0] == OUTAGE_S[0]
    assert pauses == sorted(pauses)
    assert pauses[-1] == OUTAGE_S[1]
    tries.ended(Ended(End.BUSY))
    assert tries.outage() == OUTAGE_S[0]


def test_runners_that_find_each_other_busy_do_not_march_in_step() -> None:
    assert step(End.BUSY, chance=0.0).wait_s == pytest.approx(0.1)
    assert step(End.BUSY, chance=1.0).wait_s == pytest.approx(1.0)
