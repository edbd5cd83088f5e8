"""Requests that nobody's browser sends: each is answered in words, none is a fault."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.dashboard.serving import Dashboard
from tests.dashboard.test_access import secret_of

NUL = "%00"
HUGE = "9" * 30


@pytest.fixture
def program(dashboard: Dashboard) -> Iterator[httpx.Client]:
    """It asks a dashboard at which nobody logs in."""
    with dashboard.client() as client:
        yield client


@pytest.mark.parametrize(
    "path",
    [
        f"/events?type={NUL}",
        f"/events?entity={NUL}",
        f"/events?stream={NUL}",
        f"/events?environment={NUL}",
        f"/events?since={NUL}",
        "/events?since=9999-12-31T23:59:59-14:00",
        "/events?since=0001-01-01T00:00",
        f"/events/{NUL}",
        f"/parked?projection={NUL}",
        f"/parked?type={NUL}",
        f"/parked?error={NUL}",
        f"/parked?after=a+1+{NUL}",
        f"/audit?who={NUL}",
        f"/audit?before=local+2026-01-31T12:00:00%2B00:00+{HUGE}",
        "/audit?before=local+9999-12-31T23:59:59-14:00+1",
        f"/projections/{NUL}",
        f"/projections?state={NUL}",
        f"/streams/local/{NUL}",
        f"/streams/{NUL}/x",
        f"/streams?environment={NUL}",
        "/events?type=%ED%A0%80",
    ],
)
def test_what_no_store_can_hold_is_said(program: httpx.Client, path: str) -> None:
    for prefix in ("", "/api"):
        answer = program.get(prefix + path)
        assert answer.status_code < 500, answer.text


@pytest.mark.parametrize("reason", ["a\0b", "x" * 200_000])
def test_what_no_line_can_say_is_said(program: httpx.Client, reason: str) -> None:
    form = {"form": secret_of(program.get("/do/pause/welcome-projection")), "reason": reason}
    answer = program.post("/do/pause/welcome-projection", data=form)
    assert answer.status_code == 400, answer.text
    assert program.get(f"/do/unpark/invoice-projection?entity={NUL}").status_code == 400
