"""All projections in a table, and each on a page of its own, with its history."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.dashboard.browsing import PHONE, Open, grave, in_both_themes, is_wide
from tests.dashboard.conftest import Serve
from tests.dashboard.serving import Dashboard
from tests.dashboard.staged import NO_VAT, ON_FIRE, PARKED_ORDERS, Staged

WELCOME, INVOICE = "/projections/welcome-projection", "/projections/invoice-projection"
PAGES = ("/projections", WELCOME, INVOICE)


@in_both_themes
@pytest.mark.parametrize("path", PAGES)
def test_all_can_use_them(visit: Open, path: str) -> None:
    page = visit(path)
    for unfolded in page.locator("details").all():
        unfolded.locator("summary").click()
    assert grave(page) == []


@pytest.mark.parametrize("path", PAGES)
def test_a_phone_needs_no_scrolling_sideways(visit: Open, path: str) -> None:
    assert not is_wide(visit(path, size=PHONE))


def test_who_has_failed_stands_first_and_states_can_be_chosen(visit: Open) -> None:
    page = visit("/projections")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(4)
    expect(rows.first).to_contain_text("welcome-projection")
    expect(rows.first).to_contain_text("ValueError: no such mailbox")
    expect(page.locator("#invoice-projection")).to_contain_text(str(len(PARKED_ORDERS)))
    page.get_by_role("link", name=re.compile("failed 1")).last.click()
    expect(rows).to_have_count(1)
    page.goto("/projections?state=paused")
    expect(page.locator(".empty")).to_contain_text("No projection is paused now")
    page.get_by_role("link", name="Show all").click()
    expect(rows).to_have_count(4)


def test_a_failed_one_says_why_where_and_what_can_be_done(visit: Open) -> None:
    page = visit(WELCOME)
    failed = page.get_by_role("region", name="It has failed")
    expect(failed).to_contain_text("ValueError: no such mailbox: user20@example.org")
    expect(failed).to_contain_text("Attempt 1 of 1; it stands still until it is retried")
    buttons = page.get_by_role("region", name="What can be done").get_by_role("link")
    expect(buttons).to_have_text(["Retry", "Skip the event", "Pause", "Reset"])
    for button in ("retry welcome-projection", "skip welcome-projection --event"):
        expect(page.locator("code", has_text=f"eventferry projections {button}")).to_be_visible()
    error = page.locator(".errors > li")
    expect(error).to_have_count(1)
    error.locator("summary").click()
    expect(error.locator("pre")).to_contain_text("in welcome")


def test_the_failing_event_is_shown_without_what_is_hidden(
    visit: Open, shown: Staged, serve: Serve
) -> None:
    payload = visit(WELCOME).get_by_role("region", name="The event at which it fails")
    expect(payload).to_contain_text('"email": "user20@example.org"')
    expect(payload).to_contain_text('"secret": "[redacted]"')
    without = serve(shown.mail.folder, "--no-payloads")
    with without.client() as client:
        page, data = client.get(WELCOME).text, client.get(f"/api{WELCOME}").json()
    assert "Its data is not shown here" in page
    assert "s3cret" not in page
    assert (data["event"]["data"], data["event"]["metadata"]) == (None, None)
    assert data["event"]["type"] == "UserRegistered"


def test_errors_that_are_alike_stand_together(visit: Open, dashboard: Dashboard) -> None:
    page = visit(INVOICE)
    for error, parked in (("KeyError: 'vat_id'", NO_VAT), ("RuntimeError: printer", ON_FIRE)):
        group = page.locator(".errors > li", has_text=error)
        expect(group).to_have_count(1)
        expect(group.get_by_role("link", name=f"{len(parked)} parked")).to_be_visible()
        expect(group.get_by_role("link", name="Unpark all of this error")).to_be_visible()
    with dashboard.client() as client:
        errors = client.get(f"/api{INVOICE}").json()["errors"]
    assert {e["failures"] for e in errors} == {len(NO_VAT), len(ON_FIRE)}
    assert len({e["fingerprint"] for e in errors}) == 2


def test_the_history_is_drawn_and_can_be_read(visit: Open, dashboard: Dashboard) -> None:
    page = visit(INVOICE)
    drawn = page.get_by_role("img")
    expect(page.locator(".chart")).to_have_count(6)
    for title in ("Lag, events", "Behind", "Events a minute", "Handler time", "Failed attempts"):
        expect(drawn.and_(page.get_by_label(re.compile(f"^{title}: ")))).to_be_visible()
    expect(
        page.locator(".chart", has_text="Failed attempts").locator("path.bar")
    ).to_have_attribute("d", re.compile("^M"))
    page.get_by_text("The same as a table").click()
    expect(page.get_by_role("table", name="History, the latest first")).to_be_visible()
    page.get_by_role("link", name="7 days").click()
    expect(page.get_by_role("link", name="7 days")).to_have_attribute("aria-current", "true")
    with dashboard.client() as client:
        lengths = {
            span: len(client.get(f"/api{INVOICE}?span={span}").json()["history"])
            for span in ("1h", "6h", "24h", "7d")
        }
        history = client.get(f"/api{INVOICE}").json()["history"]
    assert lengths == {"1h": 60, "6h": 72, "24h": 96, "7d": 84}
    assert sum(moment["failures"] for moment in history) == len(PARKED_ORDERS)
    assert sum(moment["parked"] for moment in history) == len(PARKED_ORDERS)


def test_it_is_said_who_runs_it_and_how_far_it_is(visit: Open, shown: Staged) -> None:
    page = visit(INVOICE)
    runs = page.get_by_role("region", name="Who runs it")
    expect(runs.get_by_role("row")).to_have_count(2)
    expect(runs).to_contain_text(str(shown.mail.workers[0].pid))
    streams = page.get_by_role("region", name="Streams", exact=True)
    expect(streams.get_by_role("rowheader")).to_have_text(["orders-stream"])
    expect(page.get_by_role("region", name="What holds it back")).to_contain_text("in flight")


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/projections/nobody", 404, "nobody"),
        (f"{INVOICE}?span=1y", 400, "expected one of 1h, 6h, 24h, 7d"),
        ("/projections?state=bored", 400, "there is no state 'bored'"),
    ],
)
def test_what_there_is_not_is_said(
    dashboard: Dashboard, path: str, status: int, error: str
) -> None:
    with dashboard.client() as client:
        page, answer = client.get(path), client.get(f"/api{path}")
    assert (page.status_code, answer.status_code) == (status, status)
    assert error in answer.json()["error"]


def test_the_api_has_all_that_the_pages_show(dashboard: Dashboard) -> None:
    with dashboard.client() as client:
        every = client.get("/api/projections").json()
        one = client.get(f"/api{WELCOME}").json()
    assert every["projections"][0]["name"] == "welcome-projection"
    assert every["counts"]["failed"] == 1
    assert one["projection"]["state"] == "failed"
    assert one["projection"]["lag"] > 0
    assert one["configured"]["attempts"] == 1
    assert one["errors"][0]["error"].startswith("ValueError")
    assert "in welcome" in one["errors"][0]["traceback"]
