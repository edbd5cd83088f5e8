"""What all pages have in common: themes, keyboard, phone, zones, following live, no scripts."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page, expect

from tests.dashboard.browsing import PHONE, Open, grave, in_both_themes, is_wide, refresh, shifts
from tests.dashboard.conftest import Serve
from tests.dashboard.serving import Dashboard
from tests.dashboard.staged import EVENTS, FAILS_AT, Staged
from tests.databases import Databases

LIVE_UPDATES = 10
PAGES = (
    "/",
    "/projections",
    "/projections/welcome-projection",
    "/projections/invoice-projection",
    "/streams",
    "/streams/shared/users-stream",
    "/events?environment=shared",
    "/parked",
    "/audit",
    "/system",
)


def background(page: Page) -> str:
    """The colour of its ground."""
    found: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return found


def test_what_is_new_appears_by_itself_and_nothing_jumps(
    stage: Staged, serve: Serve, visit: Open
) -> None:
    page = visit("/", at=serve(stage.mail.folder))
    behind = page.locator(".figure", has_text="Behind").locator("dd")
    count = EVENTS - FAILS_AT + 1
    expect(behind).to_have_text(str(count))
    for more in range(7, 7 * LIVE_UPDATES + 1, 7):
        stage.register(EVENTS + more - 6, EVENTS + more)
        expect(behind).to_have_text(str(count + more))
    assert shifts(page) == []


def test_a_theme_that_was_chosen_is_remembered(visit: Open) -> None:
    page = visit("/")
    light = background(page)
    page.get_by_role("button", name="Switch between light and dark").click()
    dark = background(page)
    assert dark != light
    page.reload()
    assert background(page) == dark
    page.get_by_role("button", name="Switch between light and dark").click()
    assert background(page) == light


def test_the_system_chooses_the_theme_first(visit: Open) -> None:
    assert background(visit("/", theme="light")) != background(visit("/", theme="dark"))


def test_a_keyboard_reaches_everything(visit: Open) -> None:
    page = visit("/")
    wanted = page.locator("a:visible, button:visible").count()
    reached = set()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the content"
    for _ in range(wanted + 5):
        reached.add(
            page.evaluate(
                "[...document.querySelectorAll('a, button')].indexOf(document.activeElement)"
            )
        )
        page.keyboard.press("Tab")
    assert len(reached - {-1}) == wanted


def test_enter_asks_what_a_button_would_do_and_escape_does_not_do_it(visit: Open) -> None:
    page = visit("/")
    page.get_by_role("link", name="Retry").focus()
    page.keyboard.press("Enter")
    asked = page.get_by_role("dialog")
    expect(asked.locator("code", has_text="eventferry projections retry")).to_be_visible()
    assert page.evaluate("document.getElementById('dialog').contains(document.activeElement)")
    assert grave(page) == []
    page.keyboard.press("Escape")
    expect(asked).to_be_hidden()
    expect(page.get_by_role("link", name="Retry")).to_be_focused()


def test_a_phone_needs_no_scrolling_sideways(visit: Open) -> None:
    page = visit("/", size=PHONE)
    expect(page.locator("svg .node").first).to_be_visible()
    assert not is_wide(page)


def test_it_works_without_scripts(visit: Open) -> None:
    page = visit("/", scripts=False)
    page.get_by_role("link", name="Retry").click()
    expect(page.get_by_role("heading", name="Retry: welcome-projection")).to_be_visible()
    expect(page.locator("code", has_text="eventferry projections retry")).to_be_visible()
    page.get_by_role("link", name="Cancel").click()
    expect(page.get_by_role("heading", name="What flows where")).to_be_visible()


def test_the_login_of_a_person(shown: Staged, serve: Serve, visit: Open) -> None:
    guarded: Dashboard = serve(shown.mail.folder, EVENTFERRY_DASHBOARD_TOKEN="0123456789abcdef")
    page = visit("/?show=all", at=guarded)
    page.get_by_label("Token").fill("0123456789abcdef")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?show=all")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Token")).to_be_visible()


def test_no_page_jumps_while_it_is_live(stage: Staged, serve: Serve, visit: Open) -> None:
    running = serve(stage.mail.folder)
    with running.client() as client:
        one = client.get("/api/events?environment=shared").json()["events"][0]["id"]
    pages = [visit(path, at=running) for path in (*PAGES, f"/events/{one}")]
    for page in pages:
        refresh(page)  # by now the viewer's zone is known
        page.evaluate("window.shifts.length = 0")
    for round_ in range(LIVE_UPDATES):
        stage.register(EVENTS + 10 * round_ + 1, EVENTS + 10 * round_ + 10)
        for page in pages:
            refresh(page)
    assert {page.url: shifts(page) for page in pages} == {page.url: [] for page in pages}


@in_both_themes
def test_all_can_use_it_before_there_is_anything(
    databases: Databases, tmp_path: Path, serve: Serve, visit: Open
) -> None:
    local, shared = databases.make("local", "new"), databases.make("shared")
    said = f'service = "new"\nlocal_url = "{local}"\nshared_url = "{shared}"\n'
    (tmp_path / "projections.toml").write_text(said)
    running = serve(tmp_path)
    for path in ("/", "/projections", "/streams", "/events", "/parked", "/audit", "/system"):
        page = visit(path, at=running)
        assert grave(page) == []
        assert not is_wide(page)


@in_both_themes
def test_the_login_can_be_used(shown: Staged, serve: Serve, visit: Open) -> None:
    guarded = serve(shown.mail.folder, EVENTFERRY_DASHBOARD_TOKEN="0123456789abcdef")
    page = visit("/", at=guarded)
    expect(page.get_by_label("Token")).to_be_focused()
    assert grave(page) == []


@in_both_themes
def test_a_page_that_is_not_there_can_be_used(visit: Open, faults: list[str]) -> None:
    page = visit("/nowhere")
    expect(page.get_by_role("link", name="To the overview")).to_be_visible()
    assert grave(page) == []
    page.goto("about:blank")  # from now on, nothing is logged any more
    assert all("404" in fault for fault in faults)
    faults.clear()
