"""What the command line decides and says, without a database."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eventferry.cli.importing import Line, appends, batches
from eventferry.cli.report import Screen
from eventferry.cli.retrying import Start, verdict
from eventferry.cli.status import ago, shown_lag, shown_left
from eventferry.event import Event
from eventferry.status import Failure, ProjectionStatus, State, StreamStatus, state
from tests.command_line import cloud_event


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def table_at(width: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    Screen(terminal).table(("stream", "lag"), [("a-stream-of-this-name", 1), ("b", None)])
    plain = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())
    return [line.rstrip() for line in plain.splitlines() if line.strip()]


def test_a_table_that_fits_is_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    head, _, *rows = table_at(60, monkeypatch)

    assert head.split() == ["stream", "lag"]
    assert [row.split() for row in rows] == [["a-stream-of-this-name", "1"], ["b"]]


def test_a_table_that_is_too_wide_becomes_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert table_at(20, monkeypatch) == [
        "stream  a-stream-of-this-name",
        "lag     1",
        "stream  b",
        "lag",
    ]


def test_a_table_that_is_too_wide_folds_the_column_that_may_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    terminal = Terminal()
    row = ("a figure of which there is much to say", "123")
    Screen(terminal).table(("figure", "here"), [row], folded="figure")

    lines = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue()).splitlines()
    assert [line.split() for line in lines if "figure of" in line or "say" in line] == [
        ["a", "figure", "of", "which", "there", "is", "much", "123"],
        ["to", "say"],
    ]


def test_in_a_pipe_no_cell_breaks_a_line() -> None:
    pipe = io.StringIO()
    Screen(pipe).table(("a", "b"), [("one\ntwo\tthree", None)])

    assert pipe.getvalue() == "a\tb\none two three\t\n"


@pytest.mark.parametrize(
    ("lag", "shown"), [(None, "-"), (0, "0"), (100_000, "100,000"), (100_001, "≥ 100,000")]
)
def test_a_lag_is_exact_up_to_100_000(lag: int | None, shown: str) -> None:
    assert shown_lag(lag) == shown


@pytest.mark.parametrize(
    ("left_s", "lag", "shown"),
    [(None, 0, "-"), (100, 100_000, "100 s"), (100, 100_001, "≥ 100 s")],
)
def test_the_time_left_is_as_exact_as_the_lag(left_s: float | None, lag: int, shown: str) -> None:
    assert shown_left(left_s, lag) == shown


@pytest.mark.parametrize(
    ("age_s", "shown"),
    [
        (-3, "0 s ago"),
        (119, "119 s ago"),
        (180, "3 min ago"),
        (7200, "2 h ago"),
        (3e5, "3 days ago"),
    ],
)
def test_a_time_is_said_as_an_age(age_s: float, shown: str) -> None:
    now = datetime(2026, 1, 31, tzinfo=UTC)
    assert ago(now - timedelta(seconds=age_s), now) == shown


@pytest.mark.parametrize(
    ("recorded", "paused", "complete", "runs", "has_run", "word"),
    [
        ("deleted", True, False, True, True, "deleted"),
        ("failed", True, False, True, True, "paused"),
        ("retrying", True, True, False, True, "paused"),
        ("idle", True, False, True, True, "paused"),
        ("failed", False, False, True, True, "failed"),
        ("retrying", False, False, True, True, "retrying"),
        ("idle", False, False, True, True, "waiting"),
        (None, False, False, False, False, "waiting"),
        ("idle", False, True, True, False, "running"),
        ("idle", False, True, False, False, "never run"),
        (None, False, True, False, False, "never run"),
        ("idle", False, True, False, True, "idle"),
    ],
)
def test_the_state_is_derived(
    recorded: Any, paused: bool, complete: bool, runs: bool, has_run: bool, word: State
) -> None:
    derived = state(recorded, paused=paused, complete=complete, runs=runs, has_run=has_run)
    assert derived == word


FAILURE = Failure(
    error="ValueError",
    traceback=None,
    stream="s",
    position=3,
    event_id=None,
    event_type=None,
    failed_at=None,
    attempts=1,
    allowed=1,
    is_final=False,
    next_attempt_at=None,
    due_s=None,
)


def found(
    position: int, word: State = "idle", failure: Failure | None = FAILURE
) -> ProjectionStatus:
    stream = StreamStatus(
        stream="s",
        exists=True,
        position=position,
        horizon=9,
        last_position=9,
        lag=0,
        held_back=0,
        behind_s=0.0,
    )
    return ProjectionStatus(
        name="p",
        kind="consuming",
        environment="local",
        mode="on demand",
        queue="domain-events",
        state=word,
        waiting=None,
        streams=(stream,),
        in_flight=(),
        failure=failure,
        paused=None,
        parked=None,
        runner=None,
        runners=(),
        shared_stream=None,
        rate=0.0,
    )


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (found(2), "not picked up"),
        (found(2, "running"), "picked up"),
        (found(4), "picked up"),
        (found(4, failure=None), "picked up"),
        (found(2, "retrying"), "picked up"),
        (found(4, "failed"), "failed"),
        (found(4, "paused"), "paused"),
        (found(7, failure=None), "done"),
        (found(8, "running", failure=None), "done"),
    ],
)
def test_a_retried_projection_is_done_at_the_head_it_had(
    now: ProjectionStatus, expected: str
) -> None:
    start = Start(positions={"s": 2}, targets={"s": 7})
    assert verdict(start, now) == expected


def test_a_failure_of_no_event_is_not_done_before_somebody_has_looked() -> None:
    start = Start(positions={"s": 7}, targets={"s": 7})
    assert verdict(start, found(7)) == "not picked up"
    assert verdict(start, replace(found(7), failure=None)) == "done"


def lines(*entities_and_versions: tuple[str | None, int | None]) -> list[Line]:
    return [
        Line(number, Event("T", entity_id=entity), version)
        for number, (entity, version) in enumerate(entities_and_versions, 1)
    ]


def test_what_one_append_can_take_goes_together() -> None:
    batch = lines(
        ("a", None), (None, None), ("a", 1), ("a", 2), ("b", 1), ("b", 3), ("a", None)
    )  # fmt: skip
    parts = [[line.number for line in part] for part in appends([*batch, batch[-1]])]

    assert parts == [[1, 2], [3, 4], [5], [6], [7], [7]]


def test_lines_come_in_batches_without_the_blank_ones() -> None:
    given = [cloud_event(1), "", cloud_event(2), " ", cloud_event(3), cloud_event(4)]
    found = batches([f"{line}\n".encode() for line in given], 3, 2, 1_000_000)

    assert [[line.number for line in batch] for batch in found] == [[3, 5], [6]]


def test_a_batch_ends_with_the_line_that_makes_it_large() -> None:
    given = [cloud_event(n, data={"text": "x" * (500 if n % 3 else 1000)}) for n in range(1, 8)]
    found = batches([line.encode() for line in given], 1, 4, 1000)

    assert [[line.number for line in batch] for batch in found] == [[1, 2], [3], [4, 5], [6], [7]]
