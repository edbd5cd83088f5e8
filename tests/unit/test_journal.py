"""Each turn of a projection is logged once, at a level that somebody can be woken by."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from eventferry.ended import End, Ended
from eventferry.errors import StoreUnavailable
from eventferry.journal import Journal


class Told:
    """What a journal logs, in the order of the looks."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        self._caplog = caplog
        self.journal = Journal()

    def ended(self, end: End, handled: int = 0) -> None:
        self.journal.ended("reader", Ended(end, handled, seconds=0.5))

    def found(self, end: End) -> None:
        self.journal.stands("reader", end, f"is {end.value}", event_id="7")
        self.ended(end)

    def outage(self) -> None:
        self.journal.outage("reader", StoreUnavailable("gone\nDETAIL: a secret"), 0.2)

    def lines(self, level: int = logging.INFO) -> list[str]:
        prefix = "projection reader "
        found = [r for r in self._caplog.records if r.levelno >= level]
        assert all(vars(r)["projection"] == "reader" for r in found)
        assert all(r.getMessage().startswith(prefix) for r in found)
        return [f"{r.levelname} {r.getMessage().removeprefix(prefix)}" for r in found]


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    return Told(caplog)


def test_who_begins_says_when_it_has_caught_up(told: Told) -> None:
    told.ended(End.SLICED, 900)
    told.ended(End.SLICED, 900)
    told.ended(End.CAUGHT_UP, 200)
    assert told.lines() == ["INFO handled 2,000 events in 1.500 s: caught up"]


def test_a_run_of_one_that_keeps_up_is_for_debugging(told: Told) -> None:
    told.ended(End.CAUGHT_UP)
    for end in (End.CAUGHT_UP, End.IN_FLIGHT, End.BUSY, End.CAUGHT_UP):
        told.ended(end, 1)
    assert len(told.lines()) == 1
    assert len(told.lines(logging.DEBUG)) == 5


def test_falling_behind_is_said_once_and_so_is_catching_up(told: Told) -> None:
    told.ended(End.CAUGHT_UP)
    for end in (End.SLICED, End.BUSY, End.SLICED, End.CAUGHT_UP, End.CAUGHT_UP):
        told.ended(end, 10)
    assert told.lines()[1:] == [
        "INFO has more to do than a run can: it is catching up",
        "INFO handled 40 events in 2.000 s: caught up",
    ]


@pytest.mark.parametrize(
    ("end", "level"),
    [(End.FAILED, "ERROR"), (End.PAUSED, "WARNING"), (End.WAITING, "WARNING")],
)
def test_what_is_found_to_stand_is_said_once(
    told: Told, caplog: pytest.LogCaptureFixture, end: End, level: str
) -> None:
    for _ in range(3):
        told.found(end)
    assert told.lines() == [f"{level} is {end.value}"]
    assert vars(caplog.records[0])["event_id"] == "7"

    told.ended(End.CAUGHT_UP)
    told.found(end)
    assert told.lines()[-1] == f"{level} is {end.value}"


def test_what_a_run_has_told_itself_is_not_found_again(told: Told) -> None:
    told.ended(End.FAILED)
    told.found(End.FAILED)
    assert told.lines() == []


def test_an_outage_begins_and_ends(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        told.outage()
    told.ended(End.BUSY)
    told.outage()
    assert told.lines() == [
        "WARNING can't go on: gone; tried again, now in 0.2 s",
        "INFO goes on: the stores answer again",
        "WARNING can't go on: gone; tried again, now in 0.2 s",
    ]
    assert len(told.lines(logging.DEBUG)) == 5
    assert all(record.exc_info is None for record in caplog.records)


def test_what_is_no_outage_shows_where_it_was_raised(
    told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    error = RuntimeError("a bug of ours")
    told.journal.outage("reader", error, 0.2)
    info: Any = caplog.records[0].exc_info
    assert info[1] is error
