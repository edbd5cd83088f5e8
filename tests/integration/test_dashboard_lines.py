"""The command lines that buttons run: one at a time, longer than anybody waits, and at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from eventferry import EventStore
from eventferry.dashboard import line as lines
from eventferry.dashboard.line import Line, Lines
from tests.conftest import MakeDatabase
from tests.deployed import Deployed, deployed
from tests.services import query
from tests.waiting import until

STOP = Line(("consuming", "stop", "reader"))
PAUSE = Line(("projections", "pause", "reader", "--reason", "for a test"))
WAITING = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


@pytest.fixture
def url(make_database: MakeDatabase) -> str:
    return make_database("local", "mail")


@pytest.fixture
def mail(url: str, tmp_path: Path) -> Iterator[Deployed]:
    """A service whose projection has a checkpoint."""
    with EventStore(url) as store:
        store.create_stream("mails-stream")
    configuration = f"""
        service = "mail"
        local_url = "{url}"
        shared_url = "{url}"
        [consuming.reader]
        stream_names = ["mails-stream"]
        environment = "local"
        handler = "handlers:handle"
    """
    handlers = "def handle(event, context):\n    pass\n"
    with deployed(tmp_path / "mail", configuration, handlers) as made:
        made.command("worker")
        until(lambda: query(url, "SELECT 1 FROM eventferry.checkpoints"), "it has a checkpoint")
        assert made.stop() == [0]
        yield made


@contextmanager
def held(url: str) -> Iterator[None]:
    """A batch of the projection goes on, and a control waits for it."""
    with psycopg.connect(url) as conn:
        conn.execute("SELECT FROM eventferry.checkpoints FOR UPDATE")
        yield


def audited(url: str) -> list[tuple[Any, ...]]:
    return query(url, "SELECT who, action FROM eventferry.audit")


def lines_of(mail: Deployed) -> Lines:
    return Lines(mail.config, mail.folder)


def test_a_line_goes_by_the_users_name_and_says_what_it_says(mail: Deployed, url: str) -> None:
    said = asyncio.run(lines_of(mail).run(PAUSE, "ada"))
    assert (said.is_ok, said.is_over) == (True, True)
    assert said.text.startswith("reader is paused")
    assert audited(url) == [("ada", "pause")]


def test_behind_two_dashes_nothing_is_an_option(mail: Deployed, url: str) -> None:
    pause = Line(("projections", "pause", "--reason", "for a test", "--", "reader"))
    assert asyncio.run(lines_of(mail).run(pause, "ada", "--json")).is_ok
    assert audited(url) == [("ada", "pause")]


def test_what_a_failed_line_says_is_shown_as_it_is(mail: Deployed) -> None:
    wrong = Line(("projections", "pause", "nobody", "--reason", "for a test"))
    said = asyncio.run(lines_of(mail).run(wrong, "ada"))
    assert not said.is_ok
    assert "nobody" in said.text


def test_who_presses_again_waits_for_the_same_line_which_outlasts_his_patience(
    mail: Deployed, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "WAIT_S", 0.01)

    async def pressed() -> None:
        running = lines_of(mail)
        with held(url):
            first, second = await asyncio.gather(running.run(PAUSE, "ada"), running.run(PAUSE, "b"))
            assert first == second
            assert (first.is_ok, first.is_over) == (True, False)
            assert f"{PAUSE} goes on" in first.text
        monkeypatch.setattr(lines, "WAIT_S", 60.0)
        assert (await running.run(PAUSE, "ada")).text.startswith("reader is paused")

    asyncio.run(pressed())
    assert audited(url) == [("ada", "pause")]


def test_a_line_ends_with_the_dashboard_and_nothing_is_half_done(mail: Deployed, url: str) -> None:
    async def ended() -> Any:
        running = lines_of(mail)
        with held(url):
            pressed = asyncio.create_task(running.run(PAUSE, "ada"))
            await asyncio.to_thread(until, lambda: query(url, WAITING) == [(1,)], "it waits")
            await running.close()
            return await pressed

    said = asyncio.run(ended())
    assert not said.is_ok
    assert audited(url) == []


def test_who_waits_for_his_turn_when_the_dashboard_ends_is_told(
    mail: Deployed, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "AT_A_TIME", 1)

    async def ended() -> tuple[Any, Any]:
        running = lines_of(mail)
        with held(url):
            first = asyncio.create_task(running.run(PAUSE, "ada"))
            await asyncio.to_thread(until, lambda: query(url, WAITING) == [(1,)], "it waits")
            second = asyncio.create_task(running.run(STOP, "ada"))
            await asyncio.sleep(0)
            await running.close()
            return await first, await second

    first, second = asyncio.run(ended())
    assert not first.is_ok
    assert (second.is_ok, second.text) == (False, f"{STOP} was not begun: the dashboard ends")
