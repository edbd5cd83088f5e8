"""What a chart is drawn of: paths, the axis, the words for who can't see it; and its moments."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from eventferry import timing
from eventferry.dashboard import chart, trend
from eventferry.dashboard.chart import HEIGHT, WIDTH, Chart, Series, counts, drawn, durations
from eventferry.dashboard.show import number
from eventferry.statistics import Minute

NOW = datetime(2026, 3, 1, 12, 30, 20, tzinfo=UTC)
HOUR = trend.SPANS["1h"]


def of(*values: float | None, is_bars: bool = False) -> Chart:
    series = Series(name="lag", values=values, is_bars=is_bars)
    moments = [f"12:{n:02}" for n in range(len(values))]
    return drawn("Lag", [series], moments, number, ceiling=counts)


def paths(found: Chart) -> dict[str, str]:
    return {shape.look: shape.path for shape in found.shapes}


@pytest.mark.parametrize(
    ("largest", "top"),
    [(0, 2), (1, 2), (2, 2), (3, 4), (7, 10), (10, 10), (11, 20), (99, 100), (12_345, 20_000)],
)
def test_the_axis_of_what_is_counted_has_round_numbers(largest: float, top: float) -> None:
    assert counts(largest) == top


@pytest.mark.parametrize(
    ("largest_s", "top_s"),
    [(0, 1), (0.00003, 0.00004), (0.3, 0.4), (1.5, 2), (45, 60), (100, 120), (5000, 7200),
     (86_000, 86_400), (400_000, 518_400)],
)  # fmt: skip
def test_the_axis_of_durations_has_what_people_count_in(largest_s: float, top_s: float) -> None:
    assert durations(largest_s) == pytest.approx(top_s)


def test_a_line_goes_through_the_middle_of_its_moments() -> None:
    found = of(0, 2, 1)
    assert list(found.ticks) == ["2", "1", "0"]
    assert list(found.grid) == [0, HEIGHT / 2, HEIGHT]
    assert paths(found)["lag curve"] == f"M100 {HEIGHT}L300 0L500 {HEIGHT // 2}"
    assert paths(found)["lag area"].endswith(f"L500 {HEIGHT}Z")


def test_where_nobody_knows_there_is_a_gap_and_who_is_alone_is_as_wide_as_his_moment() -> None:
    found = of(2, None, 2, 2)
    assert paths(found)["lag curve"] == "M0 0L150 0M375 0L525 0"


def test_bars_stand_on_the_ground_and_nothing_has_none() -> None:
    found = of(0, 2, None, 1, is_bars=True)
    path = paths(found)["lag bar"]
    assert path.count("M") == 2
    assert f"M172.50 {HEIGHT}V0h105.00V{HEIGHT}Z" in path


def test_one_of_very_many_is_seen_as_well() -> None:
    assert f"V{HEIGHT - 1.5}" in paths(of(1, 100_000, is_bars=True))["lag bar"]


def test_each_moment_says_its_value_and_the_chart_says_it_in_words() -> None:
    found = of(3, 7, None)
    assert [text for _, _, text in found.slots] == ["12:00: 3", "12:01: 7", "12:02: –"]
    assert sum(width for _, width, _ in found.slots) == pytest.approx(WIDTH)
    assert found.text == "Lag: at most 7, lately 7"
    assert found.latest == "7"


def test_of_several_series_each_is_named() -> None:
    both = [Series(name="p99", values=[2.0]), Series(name="p50", values=[None])]
    found = drawn("Time", both, ["12:00"], number, ceiling=counts)
    assert found.latest == "p99 2, p50 –"
    assert found.text == "Time: p99: at most 2, lately 2; p50: not known"


def test_a_chart_of_nothing_says_so() -> None:
    found = of(None, None)
    assert not found.has_data
    assert (found.latest, found.text) == ("–", "Lag: not known")
    assert paths(found) == {"lag area": "", "lag curve": ""}


# ---- what it is drawn of


def minute(ago: int, **done: object) -> Minute:
    """Of a projection, so many minutes before the one that goes on."""
    nothing = {
        "events": 0, "failures": 0, "retries": 0, "parked": 0, "busy_s": 0.0, "lag": None,
        "behind_s": None, "calls": timing.NONE,
    }  # fmt: skip
    at = NOW.replace(second=0) - timedelta(minutes=ago)
    return Minute(minute=at, **{**nothing, **done})  # type: ignore[arg-type]


@pytest.mark.parametrize("span", trend.SPANS.values(), ids=lambda span: span.name)
def test_a_span_has_as_many_moments_as_fit_on_a_screen_and_ends_now(span: trend.Span) -> None:
    found = trend.moments([], span, NOW)
    assert 60 <= len(found) <= 100
    assert found[-1].at <= NOW < found[-1].at + span.step
    assert found[0].at == span.window(NOW)[0]


def test_minutes_are_put_together_to_moments() -> None:
    span = trend.SPANS["6h"]  # of five minutes each
    calls = timing.of([0.001] * 99 + [3.0])
    of_one = [
        minute(31, events=100, failures=1, lag=7, behind_s=2.0, calls=calls),
        minute(33, events=400, parked=2, lag=3, behind_s=9.0),
    ]
    moment = next(m for m in trend.moments(of_one, span, NOW) if m.events)
    assert (moment.events, moment.failures, moment.parked) == (100, 1, 2)
    assert (moment.lag, moment.behind_s) == (7, 9.0)
    assert moment.p50_s == calls.percentile(0.5)


def test_the_minute_that_goes_on_counts_as_a_whole_one() -> None:
    assert trend.moments([minute(0, events=30)], HOUR, NOW)[-1].events == 30


def test_who_has_caught_up_stays_so_until_he_is_behind_again() -> None:
    found = trend.moments([minute(9, lag=0, behind_s=0.0), minute(3, lag=5)], HOUR, NOW)
    assert [m.lag for m in found[-11:]] == [None, 0, 0, 0, 0, 0, 0, 5, None, None, None]


def test_what_is_older_than_the_span_is_left_out() -> None:
    assert not any(m.events for m in trend.moments([minute(61, events=1)], HOUR, NOW))


def test_there_is_a_chart_of_each_thing_with_its_times_in_the_viewers_zone() -> None:
    found = trend.charts(trend.moments([minute(1, events=3)], HOUR, NOW), HOUR, UTC)
    titles = [c.title for c in found]
    assert titles == [
        "Lag, events", "Behind", "Events a minute", "Handler time", "Failed attempts",
        "Parked events",
    ]  # fmt: skip
    assert found[2].slots[-2][2] == "12:29: 3"
    assert trend.labels(HOUR, NOW, UTC) == ["11:31", "11:46", "12:01", "12:16", "12:31"]
    assert chart.durations(0) == 1
