"""A connection dies between any two statements of a run: nothing is lost, nothing happens twice.

Each test lets every conversation of a run be the one that dies, one after the other, when the
server has done what it was asked and the answer is lost: nobody knows then whether a commit has
happened. The next run goes on, and no event is blamed.
"""

from __future__ import annotations

from typing import Any

import pytest

from eventferry import End, Ended
from eventferry.connection import is_outage
from eventferry.handler import Handler
from tests.conftest import MakeService
from tests.faults import dying_at
from tests.services import Service, numbered, record, record_async

STREAM = "users-stream"
EVENTS = 3


@pytest.fixture
def users(make_service: MakeService) -> Service:
    users = make_service("users")
    users.create_stream(STREAM)
    users.create_effects()
    return users


def crash_everywhere(users: Service, name: str, patch: pytest.MonkeyPatch) -> int:
    """Runs the projection with a death at each conversation; returns how many there are."""
    at = 1
    with users.running(name) as look:
        while True:
            users.append(STREAM, numbered(EVENTS, first=1 + (at - 1) * EVENTS))
            with dying_at(at, patch) as fault:
                ended = None
                while ended is None or ended.end is End.BUSY:  # the server still ends the last one
                    ended = surviving(look)
            assert ended.end is End.CAUGHT_UP, (at, ended)
            known = users.known(name)
            assert known is not None
            assert (known.state, known.error, known.attempts) == ("idle", None, 0), at
            if not fault.has_struck:
                return at
            at += 1


def surviving(look: Any) -> Ended | None:
    try:
        return look()  # type: ignore[no-any-return]
    except Exception as error:
        if not is_outage(error):
            raise
        return None


@pytest.mark.parametrize("handler", [record, record_async])
def test_a_consumer_survives_every_death_of_a_connection(
    users: Service, handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    users.consuming("reader", handler, STREAM, batch_size=2)
    rounds = crash_everywhere(users, "reader", monkeypatch)
    assert rounds > 15
    assert users.recorded() == list(range(1, EVENTS * rounds + 1))


def test_a_ferry_survives_every_death_of_a_connection(
    users: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    users.producing("ferry", STREAM, batch_size=2)
    rounds = crash_everywhere(users, "ferry", monkeypatch)
    assert rounds > 15
    ferried: list[Any] = [event.data["n"] for event in users.shared.read(STREAM)]
    assert ferried == list(range(1, EVENTS * rounds + 1))
