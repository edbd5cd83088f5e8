"""How the benchmark measures: in turn, the median, beside a limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventferry import _json
from eventferry.bench import sample
from eventferry.bench.figure import Figure, alone, compare
from eventferry.bench.stage import EVENTS, Stage


def compared(ours: list[float], limits: list[float], *, rounds: int, target: float) -> Figure:
    """Of what was measured, round after round; the first one does not count."""
    mine, its = iter([1e9, *ours]), iter([1e9, *limits])
    return compare(
        "a",
        "something",
        lambda: next(mine),
        lambda: next(its),
        limit_is="something else",
        target=target,
        rounds=rounds,
    )


def test_both_are_measured_in_turn_each_round_in_the_other_order_after_a_first_one() -> None:
    seen = ""

    def measure(which: str) -> float:
        nonlocal seen
        seen += which
        return 1.0

    compare(
        "a",
        "something",
        lambda: measure("o"),
        lambda: measure("l"),
        limit_is="something else",
        target=1.0,
        rounds=3,
    )

    assert seen == "ol" + "lo" + "ol" + "lo"


def test_the_median_of_the_rounds_counts_and_that_of_their_ratios() -> None:
    figure = compared([10, 90, 30], [100, 100, 60], rounds=3, target=0.5)

    assert (figure.ours, figure.limit) == (30, 100)
    assert (figure.lowest, figure.value, figure.highest) == (0.1, 0.5, 0.9)
    assert (figure.rounds, figure.is_met) == (3, True)


def test_a_ratio_below_its_target_is_not_met() -> None:
    assert not compared([49], [100], rounds=1, target=0.5).is_met


@pytest.mark.parametrize(("measured", "is_met"), [([1.0, 9.0, 2.0], True), ([3.0, 2.1], False)])
def test_a_figure_without_a_limit_has_to_stay_below_its_bound(
    measured: list[float], is_met: bool
) -> None:
    figure = alone("j", "idle", measured, unit="transactions/s", target=2.0)

    assert figure.limit is None
    assert figure.value == figure.ours
    assert figure.is_met is is_met


@pytest.mark.parametrize(
    ("events", "usual", "step", "expected"),
    [
        (EVENTS, 60, 1, 60),
        (EVENTS * 5, 60, 1, 60),
        (EVENTS // 10, 60, 1, 6),
        (1_000, 60, 2, 2),
        (EVENTS // 10, 16_000, 16, 1_600),
        (EVENTS // 3, 16_000, 16, 5_328),
    ],
)
def test_with_fewer_events_everything_is_smaller_in_whole_steps(
    events: int, usual: int, step: int, expected: int
) -> None:
    stage = Stage("", "", folder=Path(), is_embedded=False, pgbench=None, rounds=1, events=events)

    assert stage.sized(usual, step) == expected


def test_an_event_has_about_300_bytes_of_data_and_150_of_metadata() -> None:
    event = sample.event()

    assert len(_json.dumps(event.data, what="")) in range(280, 330)
    assert len(_json.dumps(event.metadata, what="")) in range(135, 175)
    assert event.entity_id
