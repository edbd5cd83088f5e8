"""The audit: who has done what, when and why."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import expect

from tests.dashboard.browsing import PHONE, ZONE, Open, grave, in_both_themes, is_wide
from tests.dashboard.conftest import Serve
from tests.dashboard.serving import Dashboard
from tests.dashboard.staged import Staged

REASON = "the mail server is being moved"


@pytest.fixture(scope="module")
def deeds(shown: Staged) -> int:
    """How many things have been done."""
    lines = [
        ("pause", "audit-projection", "--reason", REASON),
        ("resume", "audit-projection"),
        ("retry", "welcome-projection"),
    ]
    for line in lines:
        command = [sys.executable, "-m", "eventferry", "projections", *line]
        subprocess.run(command, cwd=shown.mail.folder, check=True, capture_output=True)
    shown.until_settled()
    return len(lines)


@in_both_themes
def test_all_can_use_it(visit: Open, deeds: int) -> None:
    page = visit("/audit")
    expect(page.locator("tbody tr")).to_have_count(deeds)
    assert grave(page) == []


def test_it_says_who_did_what_and_why(visit: Open, deeds: int) -> None:
    page = visit("/audit")
    expect(page.locator("tbody tr").first).to_contain_text("retry")
    expect(page.locator("tbody tr").last).to_contain_text(REASON)
    page.get_by_label("What").select_option("resume")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_label("Who").fill("nobody")
    page.keyboard.press("Enter")
    expect(page.locator(".empty")).to_contain_text("Nobody has done anything like that")
    page.get_by_role("link", name="Show all").first.click()
    expect(page.locator("tbody tr")).to_have_count(deeds)


def test_times_are_those_of_the_viewer_and_utc_on_hover(visit: Open, deeds: int) -> None:
    page = visit("/audit")
    when = page.locator("tbody time").first
    at = datetime.fromisoformat(when.get_attribute("datetime") or "")
    expect(when).to_have_text(f"{at.astimezone(ZoneInfo(ZONE)):%Y-%m-%d %H:%M:%S}")
    assert (when.get_attribute("title") or "") == f"{at:%Y-%m-%d %H:%M:%S.%f} UTC"


def test_a_page_follows_another(dashboard: Dashboard, deeds: int) -> None:
    with dashboard.client() as client:
        every = client.get("/api/audit").json()
        assert len(every["actions"]) == deeds
        assert every["before"] is None
        at = every["actions"][0]["at"]
        older = client.get("/api/audit", params={"before": f"local {at} 0"}).json()
        assert older["actions"] == every["actions"][1:]
        for wrong in ("", "x", "local", f"local {at}", f"other {at} 1", "local 2026-01-01 1"):
            answer = client.get("/api/audit", params={"before": wrong})
            assert answer.status_code == 400, wrong


def test_what_is_done_appears_by_itself(stage: Staged, serve: Serve, visit: Open) -> None:
    page = visit("/audit", at=serve(stage.mail.folder))
    expect(page.locator(".empty")).to_contain_text("Nobody has done anything to a projection yet")
    assert stage.mail.run("projections", "pause", "audit-projection", "--reason", REASON) == 0
    expect(page.locator("tbody tr")).to_contain_text(REASON)


def test_a_phone_needs_no_scrolling_sideways(visit: Open, deeds: int) -> None:
    assert not is_wide(visit("/audit", size=PHONE))
