"""Parked and failed: what stands still, by what went wrong; filtered, and let go on again."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from eventferry.dashboard.parked import standing_alike
from tests.dashboard.browsing import PHONE, Open, grave, in_both_themes, is_wide
from tests.dashboard.conftest import Serve
from tests.dashboard.serving import Dashboard
from tests.dashboard.staged import NO_VAT, ON_FIRE, PARKED_ORDERS, Staged
from tests.waiting import until

FIRE = "RuntimeError: printer 5 is on fire"


def rows(page: Page) -> int:
    """How many parked events are shown."""
    return page.locator("tr[id^=parked-]").count()


@in_both_themes
def test_all_can_use_it(visit: Open) -> None:
    page = visit("/parked")
    expect(page.get_by_role("heading", name="Parked events")).to_be_visible()
    page.get_by_text("Traceback").first.click()
    assert grave(page) == []


def test_errors_are_told_with_what_has_them(visit: Open) -> None:
    page = visit("/parked")
    failed = page.locator(".errors > li", has_text="no such mailbox: user20@example.org")
    expect(failed).to_contain_text("welcome-projection")
    expect(failed).to_contain_text("attempt 1 of 1")
    expect(page.locator(".errors > li", has_text="vat_id")).to_contain_text(f"{len(NO_VAT)} events")
    expect(page.locator(".errors > li", has_text="on fire")).to_contain_text(
        f"{len(ON_FIRE)} events"
    )
    assert rows(page) == len(PARKED_ORDERS)


def test_it_is_filtered_by_error_type_and_projection(visit: Open) -> None:
    page = visit("/parked")
    page.locator("[name=error]").select_option(label=FIRE)
    page.get_by_role("button", name="Filter").click()
    expect(page.locator(".errors > li")).to_have_count(1)
    assert rows(page) == len(ON_FIRE)
    page.get_by_label("Event type").fill("OrderCancelled")
    page.keyboard.press("Enter")
    page.wait_for_url("**type=OrderCancelled**")
    assert rows(page) == 0
    page.get_by_role("link", name="Show all").first.click()
    page.locator("[name=projection]").select_option("welcome-projection")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator(".errors > li")).to_have_count(1)
    expect(page.locator(".errors")).to_contain_text("no such mailbox")


def test_a_page_follows_another(dashboard: Dashboard) -> None:
    with dashboard.client() as client:
        every = client.get("/api/parked").json()
        middle = every["parked"][4]
        after = f"{middle['projection']} {middle['position']} {middle['stream']}"
        rest = client.get("/api/parked", params={"after": after}).json()
        assert rest["parked"] == every["parked"][5:]
        assert rest["after"] is None
        assert every["count"] == len(PARKED_ORDERS)
        html = client.get("/parked", params={"after": after}).text
        assert "From the start" in html
        for wrong in ("x", "a b c", "a -1 c", "a 1", f"a {10**30} c"):
            answer = client.get("/api/parked", params={"after": wrong})
            assert answer.status_code == 400
            assert "expected a projection, a position and a stream" in answer.json()["error"]


def test_what_is_selected_is_unparked(stage: Staged, serve: Serve, visit: Open) -> None:
    page = visit("/parked", at=serve(stage.mail.folder))
    stage.fix()
    for n in (0, 2):
        page.locator("tr[id^=parked-] input[type=checkbox]").nth(n).check()
    page.get_by_role("button", name="Unpark selected").click()
    asked = page.get_by_role("dialog")
    expect(asked.locator(".line code")).to_have_text(
        re.compile(r"^eventferry projections unpark invoice-projection (--event \S+ ?){2}$")
    )
    asked.get_by_role("button", name="Unpark").click()
    expect(page.get_by_role("status")).to_contain_text("2 events handled")
    assert rows(page) == len(PARKED_ORDERS) - 2


def test_what_is_selected_is_skipped(stage: Staged, serve: Serve, visit: Open) -> None:
    page = visit("/parked", at=serve(stage.mail.folder))
    for n in (0, 2):
        page.locator("tr[id^=parked-] input[type=checkbox]").nth(n).check()
    page.get_by_role("button", name="Skip selected").click()
    asked = page.get_by_role("dialog")
    asked.get_by_label("Reason").fill("double")
    expect(asked.locator(".line code")).to_have_text(
        re.compile(
            r"^eventferry projections skip invoice-projection (--event \S+ ){2}--reason 'double'$"
        )
    )
    asked.get_by_role("button", name="Skip").click()
    expect(page.get_by_role("status")).to_contain_text("forgets 2 parked events")
    assert rows(page) == len(PARKED_ORDERS) - 2


def test_all_of_one_error_is_unparked(stage: Staged, serve: Serve, visit: Open) -> None:
    page = visit("/parked", at=serve(stage.mail.folder))
    stage.fix()
    card = page.locator(".errors > li", has_text="vat_id")
    card.get_by_role("link", name="Unpark all of this error").click()
    page.get_by_role("dialog").get_by_role("button", name="Unpark").click()
    expect(page.get_by_role("status")).to_contain_text(f"{len(NO_VAT)} events handled")
    assert rows(page) == len(ON_FIRE)
    expect(page.locator(".errors > li", has_text="vat_id")).to_have_count(0)


def test_what_has_failed_is_retried_and_then_all_is_well(
    stage: Staged, serve: Serve, visit: Open
) -> None:
    page = visit("/parked?projection=welcome-projection", at=serve(stage.mail.folder))
    stage.fix()
    page.get_by_role("link", name="Retry").click()
    page.get_by_role("dialog").get_by_role("button", name="Retry").click()
    expect(page.get_by_role("status")).to_contain_text("eventferry projections retry welcome-proj")
    expect(page.locator(".empty")).to_contain_text("Nothing that is parked or has failed")
    page.goto("/audit?action=retry")
    expect(page.locator("tbody tr").first).to_contain_text("ada")


def test_who_is_filling_in_a_form_is_not_disturbed(visit: Open) -> None:
    page = visit("/parked")
    page.locator("[name=error]").select_option(label=FIRE)
    page.locator("[name=type]").fill("Order")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate("htmx.trigger(document.getElementById('page'), 'refresh')")
    page.locator("[name=error]").select_option("")
    page.locator("[name=type]").fill("")
    assert asked == []
    with page.expect_request("**/parked"):
        page.evaluate("htmx.trigger(document.getElementById('page'), 'refresh')")


def test_all_is_selected_at_once(visit: Open) -> None:
    page = visit("/parked")
    boxes = page.locator("tr[id^=parked-] input[type=checkbox]")
    page.get_by_role("button", name="Select all shown").click()
    assert all(boxes.nth(n).is_checked() for n in range(boxes.count()))
    page.get_by_role("button", name="Select all shown").click()
    assert not any(boxes.nth(n).is_checked() for n in range(boxes.count()))


def test_nothing_selected_is_said(visit: Open, faults: list[str]) -> None:
    page = visit("/parked")
    for button, said in (("Unpark selected", "say which"), ("Skip selected", "select at least")):
        page.get_by_role("button", name=button).click()
        expect(page.get_by_role("dialog")).to_contain_text(said)
        until(lambda: faults, "the browser logs the answer's status")
        faults.clear()
        page.keyboard.press("Escape")


def test_it_works_without_scripts(visit: Open) -> None:
    page = visit("/parked", scripts=False)
    page.locator("tr[id^=parked-] input[type=checkbox]").first.check()
    page.get_by_role("button", name="Unpark selected").click()
    expect(page.get_by_role("heading", name="Unpark: invoice-projection")).to_be_visible()
    page.get_by_role("link", name="Cancel").click()
    expect(page.get_by_role("heading", name="Parked events")).to_be_visible()


def test_a_phone_needs_no_scrolling_sideways(visit: Open) -> None:
    assert not is_wide(visit("/parked", size=PHONE))


def test_where_nothing_stands_still_it_says_so(visit: Open, serve: Serve, shown: Staged) -> None:
    page = visit("/parked", at=serve(shown.users.folder))
    expect(page.locator(".empty")).to_contain_text("Nothing has failed, and nothing is parked")


def test_none_that_runs_stands_still() -> None:
    assert standing_alike([]) == []
