"""Streams and events: browsing them, one by itself, and what is not to be seen of it."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Page, expect

from eventferry import Event, EventStore
from tests.dashboard.browsing import PHONE, ZONE, Open, grave, in_both_themes, is_wide, shifts
from tests.dashboard.conftest import Serve
from tests.dashboard.serving import Dashboard
from tests.dashboard.staged import EVENTS, FAILS_AT, PARKED_ORDERS, Staged
from tests.services import query
from tests.waiting import until

PATHS = [
    "/streams",
    "/streams/shared/users-stream",
    "/events",
    "/events?environment=shared&type=None",
]


def event_id(url: str, stream: str, n: int) -> UUID:
    """That of the event with this number."""
    statement = f"""SELECT id FROM streams."{stream}" WHERE data ->> 'n' = %s"""
    ((found,),) = query(url, statement, (str(n),))
    return UUID(str(found))


@pytest.fixture
def one(shown: Staged) -> str:
    """The address of an event that has been handled."""
    return f"/events/{event_id(shown.shared_url, 'users-stream', 3)}"


@in_both_themes
@pytest.mark.parametrize("path", PATHS)
def test_all_can_use_the_pages(visit: Open, path: str) -> None:
    page = visit(path)
    expect(page.locator("h1")).to_be_visible()
    assert grave(page) == []


@in_both_themes
def test_all_can_use_an_event(visit: Open, one: str) -> None:
    page = visit(one)
    expect(page.locator("h1")).to_contain_text("UserRegistered")
    page.get_by_text("As CloudEvent", exact=True).click()
    assert grave(page) == []


@pytest.mark.parametrize("path", [*PATHS, None])
def test_a_phone_shows_all_of_it(visit: Open, path: str | None, one: str) -> None:
    page = visit(path or one, size=PHONE)
    expect(page.locator("h1")).to_be_visible()
    assert not is_wide(page)


def test_the_streams_of_both_stores_are_listed(visit: Open) -> None:
    page = visit("/streams")
    shared = page.get_by_role("region", name="Shared store")
    row = shared.get_by_role("row", name="users-stream")
    expect(row).to_contain_text("60")
    expect(page.get_by_role("region", name="Local store")).to_contain_text("mails-stream")
    row.get_by_role("link").click()
    expect(page.locator("h1")).to_contain_text("users-stream in the shared store")
    readers = page.get_by_role("region", name="Who reads it")
    expect(readers.get_by_role("row", name="welcome-projection")).to_contain_text("failed")
    expect(readers.get_by_role("row", name="users-projection")).to_contain_text("producing")
    events = page.get_by_role("region", name="Its newest events")
    expect(events.locator("tbody tr")).to_have_count(20)


def positions(page: Page) -> list[int]:
    cells = page.locator("tbody td:first-child").all_text_contents()
    return [int(cell.replace(",", "")) for cell in cells]


def test_pages_lead_to_older_and_newer_events(visit: Open) -> None:
    page = visit("/events?environment=shared&stream=users-stream")
    newest = positions(page)
    assert newest == sorted(newest, reverse=True)
    assert len(newest) == 50
    page.get_by_role("link", name="Older").click()
    expect(page.locator("tbody tr")).to_have_count(EVENTS - 50)
    older = positions(page)
    assert older[0] < newest[-1]
    expect(page.get_by_role("link", name="Older")).to_have_count(0)
    page.get_by_role("link", name="Newer").click()
    expect(page.locator("tbody tr")).to_have_count(50)
    assert positions(page) == newest
    page.get_by_role("link", name="Newest").click()
    expect(page.get_by_role("link", name="Newer")).to_have_count(0)


def test_events_are_found_by_what_is_filled_in(visit: Open, shown: Staged) -> None:
    page = visit("/events")
    page.get_by_label("Store").select_option("shared")
    page.get_by_label("Entity").fill("user-2")
    page.get_by_label("Type").fill("UserRegistered")
    page.get_by_label("Since").fill("2020-01-01T00:00")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("tbody tr")).to_have_count(len([n for n in range(1, 61) if n % 7 == 2]))
    expect(page.get_by_label("Entity")).to_have_value("user-2")
    page.get_by_label("Until").fill("2020-01-02T00:00")
    page.get_by_role("button", name="Show").click()
    expect(page.locator(".empty")).to_contain_text("There is no such event")
    page.get_by_role("link", name="Show all").click()
    expect(page.locator("tbody tr").first).to_be_visible()

    wanted = str(event_id(shown.shared_url, "users-stream", 7))
    page.get_by_label("Id").fill(wanted)
    page.get_by_role("button", name="Show").click()
    expect(page.locator("h1")).to_contain_text(wanted)


def test_times_are_those_of_the_viewer(visit: Open, one: str) -> None:
    page = visit(one)
    for moment in page.locator("time[title$=UTC]").all():
        expect(moment).not_to_have_text(re.compile("UTC"))
    shown = datetime.fromisoformat(page.locator("main time").first.text_content() or "")
    in_utc = page.locator("main time").first.get_attribute("datetime")
    moment_of = datetime.fromisoformat(in_utc or "")
    assert shown == moment_of.astimezone(ZoneInfo(ZONE)).replace(tzinfo=None, microsecond=0)
    # what is filled in is of the same zone
    page.goto(f"/events?environment=shared&stream=users-stream&until={shown.isoformat()}")
    expect(page.locator(".empty")).to_contain_text("There is no such event")
    later = shown + timedelta(minutes=30)
    page.goto(f"/events?environment=shared&stream=users-stream&until={later.isoformat()}")
    expect(page.locator("tbody tr").first).to_be_visible()


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/events?id=7", 400, "an event's id is a UUID"),
        ("/events?before=x", 400, "before must be a position"),
        ("/events?since=then", 400, "since must be a time"),
        ("/events?stream=none-stream", 404, "has no stream 'none-stream'"),
        ("/events/00000000-0000-0000-0000-000000000007", 404, "has an event"),
        ("/streams/shared/none-stream", 404, "has no stream 'none-stream'"),
        ("/streams/elsewhere/users-stream", 404, "no 'elsewhere'"),
    ],
)
def test_what_can_not_be_asked_is_said(
    dashboard: Dashboard, path: str, status: int, words: str
) -> None:
    with dashboard.client() as client:
        answer = client.get(f"/api{path}")
        assert (answer.status_code, client.get(path).status_code) == (status, status)
        assert words in answer.json()["error"]


def test_an_event_says_what_has_become_of_it(visit: Open, shown: Staged) -> None:
    def outcomes(stream: str, n: int) -> dict[str, str]:
        page = visit(f"/events/{event_id(shown.shared_url, stream, n)}")
        rows = page.get_by_role("region", name="What projections").locator("tbody tr")
        expect(rows.first).to_be_visible()
        cells = [row.locator("td").all_text_contents() for row in rows.all()]
        return {row[0]: row[3] for row in cells}

    assert outcomes("users-stream", 3) == {
        "welcome-projection": "handled",
        "audit-projection": "handled",
        "users-projection": "not known",
    }
    assert outcomes("users-stream", FAILS_AT)["welcome-projection"] == "failing"
    assert outcomes("users-stream", FAILS_AT + 1)["welcome-projection"] == "not yet"
    assert outcomes("orders-stream", PARKED_ORDERS[0])["invoice-projection"] == "parked"


def test_what_an_event_has_caused_is_one_press_away(visit: Open, one: str) -> None:
    page = visit(one)
    tree = page.locator(".tree")
    expect(tree.locator("li")).to_have_count(2)
    tree.get_by_role("link", name="MailSent").click()
    expect(page.locator("h1")).to_contain_text("MailSent")
    expect(page.locator("main")).to_contain_text("In the local store")
    expect(page.locator(".tree li").nth(1)).to_have_attribute("aria-current", "true")
    page.locator(".tree").get_by_role("link", name="UserRegistered").click()
    expect(page.locator("h1")).to_contain_text("UserRegistered")


def test_what_is_redacted_is_nowhere(visit: Open, one: str, dashboard: Dashboard) -> None:
    page = visit(one)
    expect(page.get_by_role("region", name="Data").locator("pre")).to_contain_text("[redacted]")
    for path in (
        one,
        "/events?environment=shared&stream=users-stream",
        "/streams/shared/users-stream",
    ):
        with dashboard.client() as client:
            html, data = client.get(path).text, client.get(f"/api{path}").text
        assert "user3@example.org" in html or path != one
        assert "UserRegistered" in html
        assert "UserRegistered" in data
        assert "s3cret" not in html + data


def test_a_cloudevent_is_copied(visit: Open, one: str) -> None:
    page = visit(one, permissions=["clipboard-read", "clipboard-write"])
    button = page.get_by_role("button", name="Copy as CloudEvent")
    button.click()
    expect(button).to_have_attribute("data-done", "copied")
    copied = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert copied["specversion"] == "1.0"
    assert copied["id"] == one.rpartition("/")[2]
    assert (copied["source"], copied["data"]["n"]) == ("users", 3)
    assert copied["data"]["secret"] == "[redacted]"


def test_without_payloads_there_are_none(
    serve: Serve, visit: Open, shown: Staged, one: str
) -> None:
    blind = serve(shown.mail.folder, "--no-payloads")
    page = visit(one, at=blind)
    expect(page.get_by_role("region", name="Data", exact=True)).to_contain_text(
        "Payloads are not shown here"
    )
    expect(page.get_by_role("button", name="Copy as CloudEvent")).to_have_count(0)
    with blind.client() as client:
        for path in (one, "/events?environment=shared&stream=users-stream"):
            for text in (client.get(path).text, client.get(f"/api{path}").text):
                assert "UserRegistered" in text
                assert "example.org" not in text


def test_new_events_appear_by_themselves(stage: Staged, serve: Serve, visit: Open) -> None:
    page = visit("/events?environment=shared&stream=users-stream", at=serve(stage.mail.folder))
    newest = page.locator("tbody tr").first
    for n in range(EVENTS + 1, EVENTS + 4):
        stage.register(n, n)
        expect(newest).to_contain_text(f'"n": {n}')
    assert shifts(page) == []


def test_an_event_of_any_client_is_shown(stage: Staged, serve: Serve, visit: Open) -> None:
    """Numbers of any size, and what is no Unicode."""
    with EventStore(stage.mail_url) as store:
        large = Event("Large", {"n": 2**70, "text": "".join(map(str, range(9_000)))})
        store.append("mails-stream", large)
    odd = query(
        stage.mail_url,
        """INSERT INTO streams."mails-stream" (type, data, metadata)
           VALUES ('Odd', '{"n": "<b>\\u0000</b>"}', '{"correlation_id": 7}') RETURNING id""",
    )[0][0]
    at = serve(stage.mail.folder)
    page = visit("/events?stream=mails-stream", at=at)
    expect(page.locator("tbody")).to_contain_text("large: see the event")
    visit(f"/events/{large.id}", at=at).get_by_text(str(2**70)).first.is_visible()
    page = visit(f"/events/{odd}", at=at)
    expect(page.get_by_role("region", name="Data", exact=True)).to_contain_text("<b>\\u0000</b>")
    with at.client() as client:
        assert client.get(f"/api/events/{large.id}").json()["event"]["data"]["n"] == 2**70


ODD_DATA = ('{"n": 1e400}', '{"n": ' + "9" * 5000 + "}", '{"t": "\\ud800", "\\ud801": "\\u0000"}')
ODD_METADATA = (
    '{"correlation_id": "a\\ud800"}',
    '{"correlation_id": "a\\u0000"}',
    '{"causation_id": "a\\ud800"}',
    '{"causation_id": "a\\u0000", "traceparent": "\\ud800"}',
)


def test_what_nobody_can_read_of_an_event_hides_nothing_else(stage: Staged, serve: Serve) -> None:
    insert = """INSERT INTO streams."mails-stream" (type, data, metadata)
                VALUES ('Odd', %s, %s) RETURNING id"""
    odd = [(data, "{}") for data in ODD_DATA] + [("{}", metadata) for metadata in ODD_METADATA]
    ids = [query(stage.mail_url, insert, said)[0][0] for said in odd]
    last = """SELECT 1 FROM streams."mails-stream" WHERE id = %s"""
    until(lambda: query(stage.shared_url, last, (ids[-1],)), "they are ferried")
    fail_at = """UPDATE eventferry.projections SET failing_event_id = %s,
                 failing_stream = 'mails-stream' WHERE name = 'welcome-projection' RETURNING 1"""
    with serve(stage.mail.folder).client() as client:
        for id_ in ids:
            assert query(stage.mail_url, fail_at, (id_,))
            for path in (f"/events/{id_}", "/projections/welcome-projection"):
                for answer in (client.get(path), client.get("/api" + path)):
                    assert answer.status_code == 200, (odd[ids.index(id_)], path, answer.text)


def test_without_payloads_no_cause_is_told_either(stage: Staged, serve: Serve) -> None:
    (id_,) = query(
        stage.mail_url,
        """INSERT INTO streams."mails-stream" (type, metadata)
           VALUES ('Odd', '{"causation_id": "call of ada@example.org"}') RETURNING id""",
    )[0]
    for option, is_told in (("--read-only", True), ("--no-payloads", False)):
        with serve(stage.mail.folder, option).client() as client:
            for prefix in ("", "/api"):
                answer = client.get(f"{prefix}/events/{id_}")
                assert answer.status_code == 200
                assert ("ada@example.org" in answer.text) is is_told
