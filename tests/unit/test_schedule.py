"""The pauses before a process is started again."""

from __future__ import annotations

from eventferry.schedule import PAUSE_S, SETTLED_S, Backoff


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
