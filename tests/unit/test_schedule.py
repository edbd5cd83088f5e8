"""How a process has ended, and the pauses before it is started again."""

from __future__ import annotations

import pytest

from eventferry.schedule import PAUSE_S, SETTLED_S, Backoff, ended_with


@pytest.mark.parametrize(
    ("code", "said"), [(0, "exit code 0"), (2, "exit code 2"), (-9, "SIGKILL"), (-35, "signal 35")]
)
def test_whatever_ends_a_process_has_words(code: int, said: str) -> None:
    assert ended_with(code) == said


def test_pauses_grow_up_to_the_longest() -> None:
    backoff = Backoff()

    pauses = [backoff.pause(lived_s=0.1, chance=1.0) for _ in range(100)]

    assert pauses[:7] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0]
    assert set(pauses[7:]) == {30.0}


def test_who_has_lived_for_long_begins_with_the_first_pause_again() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.pause(lived_s=0.1, chance=1.0)

    assert backoff.pause(lived_s=SETTLED_S, chance=1.0) == PAUSE_S[0]
    assert backoff.pause(lived_s=0.1, chance=1.0) == 2 * PAUSE_S[0]


def test_many_do_not_start_at_the_same_moment() -> None:
    assert [Backoff().pause(lived_s=0.0, chance=chance) for chance in (0.0, 0.5, 1.0)] == [
        0.25,
        0.375,
        0.5,
    ]
