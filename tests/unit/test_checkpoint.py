"""Checkpoints move to events that were read, and notice when history has changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from eventferry import HistoryMismatch, Horizon
from eventferry.checkpoint import (
    Checkpoint,
    Mark,
    moved,
    require_same_events,
    require_same_store,
)

STORE, A, B = UUID(int=1), UUID(int=2), UUID(int=3)


def id_(position: int) -> UUID:
    return UUID(int=1000 + position)


def at(stream: str, position: int) -> Checkpoint:
    return Checkpoint(
        stream=stream,
        store=STORE,
        incarnation=A if stream == "a" else B,
        position=position,
        event_id=id_(position) if position else None,
    )


def marks(*places: tuple[str, int]) -> list[Mark]:
    return [Mark(stream, position, id_(position)) for stream, position in places]


HORIZON = Horizon(store=STORE, incarnations=(A, B), head=99, position=99, in_flight=0)


def test_checkpoints_move_to_the_last_event_of_their_stream() -> None:
    before = (at("a", 0), at("b", 2))
    assert moved(before, []) == before
    assert moved(before, marks(("a", 3), ("a", 5))) == (at("a", 5), at("b", 2))
    assert moved(before, marks(("a", 3), ("b", 4))) == (at("a", 3), at("b", 4))


def test_the_same_store_is_read_on() -> None:
    require_same_store((at("a", 1), at("b", 0)), HORIZON, "p", "local store")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            {"store": UUID(int=9)},
            "of store .*0001, but local store is store .*0009. .* Is the URL wrong",
        ),
        ({"incarnations": (A, UUID(int=9))}, "'b' up to position 4, but .* created again"),
        ({"incarnations": (A, None)}, "created again"),
    ],
)
def test_another_store_or_stream_is_refused(change: dict[str, Any], match: str) -> None:
    with pytest.raises(HistoryMismatch, match=match):
        require_same_store((at("a", 1), at("b", 4)), replace(HORIZON, **change), "p", "local store")


@pytest.mark.parametrize(
    ("checkpoints", "found", "own"),
    [
        ((at("a", 0),), [], 0),
        ((at("a", 0),), [("a", 1), ("a", 2)], 0),
        ((at("a", 2),), [("a", 2)], 1),
        ((at("a", 2),), [("a", 2), ("a", 5)], 1),
        ((at("a", 5), at("b", 2)), [("b", 2), ("b", 3), ("a", 5), ("a", 6)], 2),
        ((at("a", 0), at("b", 2)), [("a", 1), ("b", 2), ("a", 3)], 1),
    ],
)
def test_the_checkpoints_own_events_are_no_work(
    checkpoints: tuple[Checkpoint, ...], found: list[tuple[str, int]], own: int
) -> None:
    arguments = {"complete": True, "projection": "p"}
    assert require_same_events(checkpoints, marks(*found), **arguments) == own  # type: ignore[arg-type]


def test_an_own_event_may_still_come_on_a_later_page() -> None:
    found = marks(("b", 2), ("b", 3))
    both = (at("a", 5), at("b", 2))
    assert require_same_events(both, found, complete=False, projection="p") == 1
    with pytest.raises(HistoryMismatch, match=r"'a' up to event .* the stream ends before it"):
        require_same_events(both, found, complete=True, projection="p")


def test_another_event_at_the_checkpoint_is_lost_history() -> None:
    other = Mark("a", 2, UUID(int=9))
    with pytest.raises(HistoryMismatch, match=r"event .*0009 at position 2 is what stands there"):
        require_same_events((at("a", 2),), [other], complete=False, projection="p")
    with pytest.raises(HistoryMismatch, match="at position 3 is what stands there now"):
        require_same_events((at("a", 2),), marks(("a", 3)), complete=True, projection="p")
    with pytest.raises(HistoryMismatch, match="the stream ends before it"):
        require_same_events((at("a", 2),), [], complete=True, projection="p")
