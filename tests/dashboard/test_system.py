"""The system: what runs, with which versions, on which stores."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.dashboard.browsing import PHONE, Open, grave, in_both_themes, is_wide, refresh, shifts
from tests.dashboard.conftest import Serve
from tests.dashboard.serving import Dashboard
from tests.dashboard.staged import Staged


@in_both_themes
def test_all_can_use_it(visit: Open) -> None:
    page = visit("/system")
    expect(page.get_by_role("heading", name="Stores")).to_be_visible()
    assert grave(page) == []


def test_it_shows_the_processes_and_both_stores(dashboard: Dashboard, shown: Staged) -> None:
    (worker,) = shown.mail.workers
    with dashboard.client() as client:
        found = client.get("/api/system").json()
    (process,) = found["processes"]
    assert process["pid"] == worker.pid
    assert process["command"] == "worker"
    assert not process["is_outdated"]
    assert found["versions"]["code"] == process["version"]
    local, shared = found["stores"]
    assert (local["environment"], shared["environment"]) == ("local", "shared")
    assert local["id"] != shared["id"]
    for store in (local, shared):
        assert store["error"] is None
        assert store["schema"] == store["newest"]
        assert 0 < store["open"] <= store["allowed"]
        assert re.match(r"\d+\.\d+", store["postgresql"])
    assert found["served"]["redact"] == ["data.secret"]


def test_it_shows_no_secret(serve: Serve, shown: Staged) -> None:
    token = "0123456789abcdef-secret"
    running = serve(shown.mail.folder, EVENTFERRY_DASHBOARD_TOKEN=token)
    with running.client(headers={"Authorization": f"Bearer {token}"}) as client:
        for path in ("/system", "/api/system"):
            answer = client.get(path)
            assert answer.status_code == 200
            assert token not in answer.text


def test_nothing_jumps_while_heartbeats_pass(visit: Open) -> None:
    page = visit("/system")
    page.wait_for_function("() => window.updates > 1")  # by then the viewer's zone is known
    page.evaluate("window.shifts.length = 0")
    page.wait_for_function("() => window.updates > 11")
    assert shifts(page) == []


def test_the_line_that_restarts_all_can_be_copied(visit: Open) -> None:
    page = visit("/system", permissions=["clipboard-read", "clipboard-write"])
    button = page.get_by_role("button", name="Copy")
    button.click()
    expect(button).to_have_attribute("data-done", "copied")
    refresh(page)
    expect(button).to_have_attribute("data-done", "copied")
    assert page.evaluate("navigator.clipboard.readText()") == "eventferry restart"


def test_a_phone_needs_no_scrolling_sideways(visit: Open) -> None:
    assert not is_wide(visit("/system", size=PHONE))
