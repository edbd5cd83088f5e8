"""Each button: pressed in a browser, run as a command line, audited with the user's name."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.browsing import Open, grave, in_both_themes, refresh, shifts
from tests.dashboard.conftest import Serve
from tests.dashboard.staged import NO_VAT, ON_FIRE, PARKED_ORDERS, Staged
from tests.services import query

WELCOME, INVOICE = "/projections/welcome-projection", "/projections/invoice-projection"
AUDIT = "/projections/audit-projection"


def audited(stage: Staged) -> list[tuple[Any, ...]]:
    """What was done by whom, without what policies did."""
    return query(
        stage.mail_url,
        "SELECT projection, action, reason FROM eventferry.audit"
        " WHERE who LIKE 'ada%%' ORDER BY id",
    )


def ask(page: Page, button: str) -> Any:
    """Presses a button of the page; the dialog, when it asks."""
    page.get_by_role("link", name=button, exact=True).first.click()
    asked = page.get_by_role("dialog")
    expect(asked.locator("#question")).to_be_visible()
    return asked


def confirm(page: Page, asked: Any, button: str, said: str) -> None:
    """Presses the dialog's button, and reads what has come of it."""
    asked.get_by_role("button", name=button, exact=True).click()
    expect(page.locator(".flash")).to_contain_text(said)


def parked(page: Page) -> Any:
    return page.locator(".figure", has_text="Parked").locator("dd")


@in_both_themes
def test_what_has_failed_is_paused_resumed_skipped_and_retried(
    stage: Staged, serve: Serve, visit: Open
) -> None:
    page = visit(WELCOME, at=serve(stage.mail.folder))
    asked = ask(page, "Pause")
    asked.get_by_label("Reason").fill("it's late")
    expect(asked.locator(".line code")).to_have_text(
        """eventferry projections pause welcome-projection --reason 'it'"'"'s late'"""
    )
    assert grave(page) == []
    confirm(page, asked, "Pause", "welcome-projection is paused")
    expect(page.get_by_role("region", name="Paused")).to_contain_text("it's late")
    expect(page.get_by_role("link", name="Pause", exact=True)).to_have_count(0)

    confirm(page, ask(page, "Resume"), "Resume", "welcome-projection goes on")
    expect(page.locator("h1 .state")).to_contain_text("failed")

    confirm(page, ask(page, "Retry"), "Retry", "welcome-projection")
    failed = page.get_by_role("region", name="It has failed")
    expect(failed).to_contain_text("Attempt 1 of 1")

    asked = ask(page, "Skip the event")
    expect(asked).to_contain_text("This can't be undone")
    asked.get_by_role("button", name="Skip the event").click()
    assert asked.get_by_label("Reason").evaluate("field => field.validity.valueMissing")
    asked.get_by_label("Reason").fill("no such user")
    confirm(page, asked, "Skip the event", "goes on after event")
    expect(page.locator("h1 .state")).to_contain_text("idle")
    assert audited(stage) == [
        ("welcome-projection", "pause", "it's late"),
        ("welcome-projection", "resume", None),
        ("welcome-projection", "retry", None),
        ("welcome-projection", "skip", "no such user"),
    ]


@in_both_themes
def test_what_is_parked_is_unparked_one_by_one_by_entity_by_error_and_all(
    stage: Staged, serve: Serve, visit: Open
) -> None:
    page = visit(INVOICE, at=serve(stage.mail.folder))
    asked = ask(page, "Unpark")
    expect(asked.locator(".plan")).to_contain_text("1 events would be handed to the handler")
    assert grave(page) == []
    confirm(page, asked, "Unpark", "failed again: ")  # as the line says it
    expect(page.locator(".flash")).to_have_class("flash bad")
    expect(parked(page)).to_contain_text(str(len(PARKED_ORDERS)))

    stage.fix()
    confirm(page, ask(page, "Unpark"), "Unpark", "1 event handled")
    expect(parked(page)).to_contain_text(str(len(PARKED_ORDERS) - 1))
    confirm(page, ask(page, "Entity"), "Unpark", "1 event handled")
    group = page.locator(".errors > li", has_text="KeyError")
    left = len(NO_VAT) + len(ON_FIRE) - 2
    of_error = int(group.get_by_role("link", name="parked").inner_text().split()[0])
    group.get_by_role("link", name="Unpark all of this error").click()
    asked = page.get_by_role("dialog")
    expect(asked.locator(".plan")).to_contain_text(f"{of_error} events would be handed")
    confirm(page, asked, "Unpark", f"{of_error} events handled")
    expect(parked(page)).to_contain_text(str(left - of_error))
    confirm(page, ask(page, "Unpark all"), "Unpark", f"{left - of_error} events handled")
    expect(parked(page)).to_have_text("0")
    assert audited(stage) == [("invoice-projection", "unpark", None)] * 5


@in_both_themes
def test_a_reset_shows_what_comes_of_it_wherever_it_goes(
    stage: Staged, serve: Serve, visit: Open
) -> None:
    page = visit(AUDIT, at=serve(stage.mail.folder))
    asked = ask(page, "Reset")
    plan, line = asked.locator(".plan"), asked.locator(".line code")
    expect(plan).to_contain_text("60 events are handled again")
    asked.get_by_label("now at the end").check()
    expect(plan).to_contain_text("users-stream stays at position")
    expect(line).to_have_text("eventferry projections reset audit-projection --to now --yes")
    asked.get_by_label("The position").fill("10")
    expect(asked.get_by_label("position behind")).to_be_checked()
    asked.get_by_label("Reason").fill("again")
    expect(plan).to_contain_text("to 10: 50 events are handled again")
    expect(line).to_have_text(
        "eventferry projections reset audit-projection --to 10 --reason 'again' --yes"
    )
    assert grave(page) == []
    confirm(page, asked, "Reset", "audit-projection is reset")
    assert audited(stage) == [("audit-projection", "reset", "again")]


def test_without_scripts_what_comes_of_another_choice_is_shown_first(
    stage: Staged, serve: Serve, visit: Open
) -> None:
    page = visit(AUDIT, at=serve(stage.mail.folder), scripts=False)
    page.get_by_role("link", name="Reset").click()
    expect(page.locator(".plan")).to_contain_text("60 events are handled again")
    page.get_by_label("now at the end").check()
    page.get_by_label("Reason").fill("again")
    page.get_by_role("button", name="Reset").click()
    expect(page.locator(".plan")).to_contain_text("stays at position")
    expect(page.get_by_label("Reason")).to_have_value("again")
    assert audited(stage) == []
    page.get_by_role("button", name="Reset").click()
    expect(page.locator(".flash")).to_contain_text("audit-projection is reset")
    assert audited(stage) == [("audit-projection", "reset", "again")]


def test_what_is_unfolded_stays_so_while_it_is_live_and_nothing_jumps(
    stage: Staged, serve: Serve, visit: Open
) -> None:
    page = visit(WELCOME, at=serve(stage.mail.folder))
    page.locator(".errors summary").click()
    behind = page.locator(".figure", has_text="Lag").locator("dd")
    before = int(behind.inner_text().split()[0])
    refresh(page)  # by now the viewer's zone is known
    page.evaluate("window.shifts.length = 0")
    for more in range(1, 11):
        stage.register(60 + more, 60 + more)
        expect(behind).to_contain_text(str(before + more))
    expect(page.locator(".errors pre")).to_be_visible()
    assert shifts(page) == []


@pytest.mark.parametrize("path", [WELCOME, INVOICE])
def test_who_may_only_read_has_no_buttons(
    shown: Staged, serve: Serve, visit: Open, path: str
) -> None:
    reading = serve(shown.mail.folder, "--read-only")
    page = visit(path, at=reading)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.locator("a[href*='/do/']")).to_have_count(0)
    with reading.client() as client:
        answer = client.get("/do/retry/welcome-projection")
    assert answer.status_code == 403
    assert "--read-only" in answer.text
