"""The horizon and the wake-up in all interleavings; and each rule broken, to see that it is needed.

Whoever changes the mechanism changes `tests/model.py` first.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import pytest

from tests.exploring import explore
from tests.model import ENDLESS, HAPPENINGS, LEFT, READ_AND_MARK, SKIPPED, TWICE, Rules

pytestmark = pytest.mark.once

READ, MARK, LOOK, DRAW, VISIBLE, UNMARK = Rules().append
CHECKPOINT, HEAD, MARKERS, HEAD_AGAIN, ROWS = Rules().look

SOAK = (pytest.mark.soak, pytest.mark.timeout(600))


@pytest.fixture(autouse=True)
def _no_search_for_garbage() -> Iterator[None]:
    """There is none among a million numbers, and looking for it takes a fifth of the time."""
    gc.disable()
    yield
    gc.enable()
    gc.collect()


@pytest.mark.parametrize(
    "append",
    [
        pytest.param((READ_AND_MARK, LOOK, DRAW, VISIBLE, UNMARK), id="marking at once"),
        pytest.param(Rules().append, id="step by step", marks=SOAK),
    ],
)
def test_three_writers_and_two_workers_keep_the_promises_in_every_order(
    append: tuple[str, ...],
) -> None:
    explored = explore(Rules(append=append), writers=3, workers=2)
    assert explored.broken == {}
    assert explored.states > 700_000


@pytest.mark.parametrize("fault", ["savepoint", "death", "deafness", "crash"])
def test_two_writers_and_two_workers_keep_them_with_a_fault_at_any_moment(fault: str) -> None:
    assert explore(Rules(), writers=2, workers=2, may_happen=[fault]).broken == {}


def test_an_append_of_two_events_keeps_them_while_other_streams_draw() -> None:
    both = ["second insert", "draw elsewhere"]
    assert explore(Rules(), writers=2, workers=1, may_happen=both).broken == {}


@pytest.mark.parametrize(
    "pair", [pytest.param(p, id=" and ".join(p), marks=SOAK) for p in combinations(HAPPENINGS, 2)]
)
def test_any_two_things_may_happen_at_any_moment(pair: tuple[str, str]) -> None:
    assert explore(Rules(), writers=2, workers=2, may_happen=pair).broken == {}


@dataclass(frozen=True, kw_only=True)
class Sabotage:
    rules: Rules
    breaks: set[str]
    """The promises that it breaks, and no others."""
    writers: int = 2
    workers: int = 1
    may_happen: tuple[str, ...] = ()


SABOTAGES = {
    # ---- an append
    "the marker is taken after the draw": Sabotage(
        rules=Rules(append=(DRAW, READ, MARK, LOOK, VISIBLE, UNMARK)),
        breaks={SKIPPED},
    ),
    "the marker goes before the rows are visible": Sabotage(
        rules=Rules(append=(READ, MARK, LOOK, DRAW, UNMARK, VISIBLE)),
        breaks={SKIPPED, LEFT},
    ),
    "the marker is not taken again after a savepoint": Sabotage(
        rules=Rules(marks_again_after_a_savepoint=False),
        may_happen=("savepoint",),
        breaks={SKIPPED, LEFT},
    ),
    "sleepers are looked for before the marker is taken": Sabotage(
        rules=Rules(append=(LOOK, READ, MARK, DRAW, VISIBLE, UNMARK)),
        breaks={LEFT},
    ),
    "only one of the open appends notifies": Sabotage(
        rules=Rules(every_append_notifies=False),
        breaks={LEFT},
    ),
    "a commit is visible before it is durable": Sabotage(
        rules=Rules(is_durable_when_visible=False),
        may_happen=("crash",),
        breaks={SKIPPED},
    ),
    # ---- a look
    "the markers are read before the head": Sabotage(
        rules=Rules(look=(CHECKPOINT, MARKERS, HEAD, HEAD_AGAIN, ROWS)),
        breaks={SKIPPED},
    ),
    "the head is read only once": Sabotage(
        rules=Rules(look=(CHECKPOINT, HEAD, MARKERS, ROWS)),
        breaks={LEFT},
    ),
    "the rows are read in the snapshot of the head": Sabotage(
        rules=Rules(reads_in_a_new_snapshot=False),
        breaks={SKIPPED, LEFT},
    ),
    "rows above the horizon are read": Sabotage(
        rules=Rules(reads_up_to_the_horizon=False),
        breaks={SKIPPED},
    ),
    # ---- the checkpoint
    "the checkpoint is read after the horizon": Sabotage(
        rules=Rules(look=(HEAD, MARKERS, HEAD_AGAIN, CHECKPOINT, ROWS)),
        breaks={LEFT},
    ),
    "the checkpoint is not locked": Sabotage(
        rules=Rules(locks_the_checkpoint=False),
        writers=1,
        workers=2,
        breaks={TWICE},
    ),
    "the checkpoint is not compared when it is locked": Sabotage(
        rules=Rules(compares_the_locked_checkpoint=False),
        writers=1,
        workers=2,
        breaks={TWICE},
    ),
    "a checkpoint that has moved is not read again": Sabotage(
        rules=Rules(reads_a_moved_checkpoint_again=False),
        writers=1,
        workers=2,
        may_happen=("second insert",),
        breaks={ENDLESS},
    ),
    "the checkpoint moves to the horizon": Sabotage(
        rules=Rules(checkpoint_moves_to_an_event=False),
        may_happen=("draw elsewhere", "crash"),
        breaks={SKIPPED},
    ),
    # ---- sleeping
    "who finds the checkpoint locked sleeps": Sabotage(
        rules=Rules(busy_is_no_reason_to_sleep=False),
        writers=1,
        workers=2,
        may_happen=("death",),
        breaks={LEFT},
    ),
    "what is in flight is slept over": Sabotage(
        rules=Rules(in_flight_is_no_reason_to_sleep=False),
        breaks={LEFT},
    ),
    "what is in flight is slept over behind a page": Sabotage(
        rules=Rules(looks_again_after_a_page=False),
        breaks={LEFT},
    ),
    "there is no last look": Sabotage(
        rules=Rules(takes_a_last_look=False),
        breaks={LEFT},
    ),
    "who has taken its lock back sleeps as if it had it": Sabotage(
        rules=Rules(sleeps_only_with_its_lock=False),
        breaks={LEFT},
    ),
    "a notification that comes during the last look is forgotten": Sabotage(
        rules=Rules(forgets_notifications_before_the_look=False),
        breaks={LEFT},
    ),
    "nobody looks after listening again": Sabotage(
        rules=Rules(looks_when_it_listens_again=False),
        may_happen=("deafness",),
        breaks={LEFT},
    ),
}


@pytest.mark.parametrize("sabotage", SABOTAGES.values(), ids=[*SABOTAGES])
def test_the_model_notices_that(sabotage: Sabotage) -> None:
    there = {"writers": sabotage.writers, "workers": sabotage.workers}
    right = explore(Rules(), **there, may_happen=sabotage.may_happen)
    broken = explore(sabotage.rules, **there, may_happen=sabotage.may_happen)
    assert (right.broken, set(broken.broken)) == ({}, sabotage.breaks)


def test_every_rule_is_broken_by_a_sabotage() -> None:
    broken = {rule for s in SABOTAGES.values() for rule, kept in vars(s.rules).items() if not kept}
    assert broken == {rule for rule, kept in vars(Rules()).items() if kept is True}


def test_the_way_to_a_broken_promise_is_told_step_by_step() -> None:
    """The bug of ADR 0007: an append comes and goes between the head and the markers."""
    told = explore(SABOTAGES["the head is read only once"].rules, writers=1, workers=1)
    *_, last_look = told.broken[LEFT].partition("say I sleep | ")
    assert "look for sleepers" in told.broken[LEFT].removesuffix(last_look)
    assert last_look == (
        "read the checkpoint | read the head | draw | become visible | unmark | "
        "see the markers | find nothing | nobody can do anything"
    )
