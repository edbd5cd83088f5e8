"""How values look on a page, and what of events is hidden."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from eventferry.dashboard import show
from eventferry.dashboard.redaction import Redaction

AT = datetime(2026, 3, 29, 0, 30, 5, 123456, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (0, "0"), (3.44, "3.4"), (12.6, "13"), (1234567, "1,234,567"), (9.0, "9")],
)
def test_numbers_are_grouped(value: float | None, shown: str) -> None:
    assert show.number(value) == shown


def test_a_lag_that_was_not_counted_to_its_end_says_so() -> None:
    assert (show.lag(100_000), show.lag(100_001), show.lag(None)) == ("100,000", "> 100,000", "–")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "–"), (0, "0 s"), (-1, "0 s"), (0.0000456, "46 µs"), (0.0123, "12.3 ms"),
        (0.9999, "1.0 s"), (9.94, "9.9 s"), (45, "45 s"), (150, "2.5 min"), (7100, "118 min"),
        (7300, "2.0 h"), (200_000, "2 days"),
    ],
)  # fmt: skip
def test_durations_have_the_unit_that_says_them_best(seconds: float | None, shown: str) -> None:
    assert show.seconds(seconds) == shown


@pytest.mark.parametrize(
    ("bytes_", "shown"), [(None, "–"), (0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (3e9, "3 GB")]
)
def test_sizes(bytes_: float | None, shown: str) -> None:
    assert show.size(bytes_) == shown


def test_moments_are_in_the_viewers_zone_and_in_utc_on_hover() -> None:
    vienna = show.moment(show.zone("Europe/Vienna"))(AT)
    assert ">2026-03-29 01:30:05<" in vienna
    assert 'title="2026-03-29 00:30:05.123456 UTC"' in vienna


@pytest.mark.parametrize("name", [None, "", "Nowhere/Land", "../../etc/passwd", "\0"])
def test_a_zone_that_is_none_is_utc(name: str | None) -> None:
    assert ">2026-03-29 00:30:05 UTC<" in show.moment(show.zone(name))(AT)


def test_what_is_ahead_of_our_clock_is_now() -> None:
    assert ">just now<" in show.ago(AT + timedelta(seconds=3), AT)
    assert ">3.0 s ago<" in show.ago(AT, AT + timedelta(seconds=3))


def test_a_state_is_escaped() -> None:
    assert "<b>" not in show.state("<b>")


EVENT = {"email": "a@b.c", "items": [{"price": 3, "n": 1}, {"price": 4}], "card": {"no": "4111"}}


@pytest.mark.parametrize(
    ("paths", "shown"),
    [
        ([], EVENT),
        (["data.email"], {**EVENT, "email": "[redacted]"}),
        (["*.email"], {**EVENT, "email": "[redacted]"}),
        (["metadata.email"], EVENT),
        (["data.card.no", "data.card.cvc"], {**EVENT, "card": {"no": "[redacted]"}}),
        (["data.card"], {**EVENT, "card": "[redacted]"}),
        (["data.card", "data.card.no"], {**EVENT, "card": "[redacted]"}),
        (
            ["data.items.*.price"],
            {**EVENT, "items": [{"price": "[redacted]", "n": 1}, {"price": "[redacted]"}]},
        ),
        (["data.items.1"], {**EVENT, "items": [{"price": 3, "n": 1}, "[redacted]"]}),
        (["data.*"], dict.fromkeys(EVENT, "[redacted]")),
        (["data"], None),
    ],
)
def test_what_is_at_a_path_is_hidden(paths: list[str], shown: dict[str, Any] | None) -> None:
    assert Redaction.of(paths, payloads=True).shown("data", EVENT) == shown


def test_without_payloads_nothing_is_shown() -> None:
    assert Redaction.of([], payloads=False).shown("data", EVENT) is None


def test_an_event_itself_is_left_as_it_is() -> None:
    before = repr(EVENT)
    Redaction.of(["data.card.no"], payloads=True).shown("data", EVENT)
    assert repr(EVENT) == before


def test_the_last_hour_that_there_is_is_shown_in_utc() -> None:
    last = datetime(9999, 12, 31, 23, 30, tzinfo=UTC)
    assert ">9999-12-31 23:30:00 UTC<" in show.moment(ZoneInfo("Asia/Tokyo"))(last)
