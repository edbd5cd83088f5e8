"""The command line that each button stands for, and which buttons a projection has."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from eventferry.dashboard.action import ACTIONS, fitting
from eventferry.dashboard.guard import own_path
from eventferry.dashboard.line import BLANK
from eventferry.dashboard.page import Wrong
from eventferry.status import Failure, ParkedEvents, ProjectionStatus

E1, E2 = "01920000-0000-7000-8000-000000000001", "01920000-0000-7000-8000-000000000002"


def line(action: str, blank: str | None = None, /, **said: str | list[str]) -> str:
    values = {name: [v] if isinstance(v, str) else v for name, v in said.items()}
    return str(ACTIONS[action].line("mails", values, blank)).removeprefix("eventferry projections ")


@pytest.mark.parametrize(
    ("action", "said", "expected"),
    [
        ("retry", {}, "retry mails"),
        ("retry", {"reason": "it's fixed"}, """retry mails --reason 'it'"'"'s fixed'"""),
        ("skip", {"event": E1, "reason": "double"}, f"skip mails --event {E1} --reason double"),
        ("skip", {"event": [E1, E2], "reason": "x"},
         f"skip mails --event {E1} --event {E2} --reason x"),
        ("pause", {"reason": "--json"}, "pause mails --reason --json"),
        ("resume", {}, "resume mails"),
        ("reset", {"to": "now"}, "reset mails --to now --yes"),
        ("reset", {"to": "start", "stop": "yes", "reason": "x"},
         "reset mails --to start --stop --reason x --yes"),
        ("reset", {"to": "start", "position": "7"}, "reset mails --to start --yes"),
        ("reset", {"to": "position", "position": "1200"}, "reset mails --to 1200 --yes"),
        ("unpark", {"all": "yes"}, "unpark mails --all"),
        ("unpark", {"entity": "a b; rm"}, "unpark mails --entity 'a b; rm'"),
        ("unpark", {"error": "0123456789ab"}, "unpark mails --error 0123456789ab"),
        ("unpark", {"event": [E1, E2]}, f"unpark mails --event {E1} --event {E2}"),
    ],
)  # fmt: skip
def test_an_action_is_a_command_line(
    action: str, said: dict[str, str | list[str]], expected: str
) -> None:
    assert line(action, **said) == expected


@pytest.mark.parametrize(
    ("action", "said", "message"),
    [
        ("skip", {"event": E1}, "Reason is missing"),
        ("skip", {"reason": "x"}, "Event is missing"),
        ("pause", {"reason": ""}, "Reason is missing"),
        ("reset", {"to": "yesterday"}, "expected one of start, now, last-common, position"),
        ("reset", {"to": "--help"}, "expected one of"),
        ("reset", {"to": "position"}, "expected a number"),
        ("reset", {"to": "position", "position": "-1"}, "expected a number"),
        ("unpark", {}, "one of event, entity, error, all"),
        ("unpark", {"entity": "7", "all": "yes"}, "one of event, entity, error, all"),
    ],
)
def test_what_is_missing_or_can_not_be_is_said(
    action: str, said: dict[str, str | list[str]], message: str
) -> None:
    with pytest.raises(Wrong, match=message):
        line(action, **said)


def test_before_the_user_has_said_anything_a_line_has_blanks() -> None:
    assert line("skip", BLANK, event=E1) == f"skip mails --event {E1} --reason …"
    assert line("reset", BLANK, to="position") == "reset mails --to … --yes"


def test_a_name_may_look_like_an_option() -> None:
    said = ACTIONS["pause"].line("-x", {"reason": ["why"]})
    assert str(said) == "eventferry projections pause --reason why -- -x"


def test_the_consequences_do_not_depend_on_the_reason() -> None:
    reset = ACTIONS["reset"]
    planned = reset.planned("mails", {"to": ["now"], "reason": ["x"]})
    assert str(planned) == "eventferry projections reset mails --to now --yes"
    assert reset.planned("mails", {"to": ["position"]}) is None
    assert ACTIONS["retry"].planned("mails", {}) is None


def status(
    state: str,
    *,
    kind: str = "consuming",
    fails_at: str | None = None,
    parked: int = 0,
    waiting: str | None = None,
) -> ProjectionStatus:
    failure = None
    if fails_at is not None or state in ("failed", "retrying"):
        failure = Failure(
            error="ValueError: no", traceback=None, stream="users-stream", position=1,
            event_id=UUID(fails_at) if fails_at else None, event_type="A",
            failed_at=datetime(2026, 1, 1, tzinfo=UTC), attempts=1, allowed=1,
            is_final=state == "failed", next_attempt_at=None, due_s=None,
        )  # fmt: skip
    return ProjectionStatus(
        name="mails", kind=kind, environment="shared", mode="on demand",  # type: ignore[arg-type]
        queue="domain-events", state=state, waiting=waiting, streams=(),  # type: ignore[arg-type]
        in_flight=(), failure=failure, paused=None,
        parked=ParkedEvents(events=parked, entities=1, first=()) if parked else None,
        runner=None, runners=(), shared_stream=None, rate=0.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "offered"),
    [
        (status("idle"), "pause reset"),
        (status("running"), "pause reset"),
        (status("never run"), "pause reset"),
        (status("idle", fails_at=E1), "pause reset"),
        (status("failed", fails_at=E1), "retry skip pause reset"),
        (status("failed"), "retry pause reset"),
        (status("failed", kind="producing", fails_at=E1), "retry pause reset"),
        (status("retrying", fails_at=E1, parked=1), "retry unpark skip pause reset"),
        (status("paused", parked=3), "resume reset"),
        (status("paused", fails_at=E1), "resume skip reset"),
        (status("idle", parked=1), "unpark pause reset"),
        (status("deleted", parked=1), "reset"),
        (status("waiting", waiting="no stream"), "pause reset"),
    ],
)
def test_only_what_makes_sense_is_offered(given: ProjectionStatus, offered: str) -> None:
    assert [button.action.name for button in fitting(given)] == offered.split()


def test_a_button_shows_its_line_as_it_will_be() -> None:
    lines = {b.action.name: str(b.line) for b in fitting(status("failed", fails_at=E1))}
    assert lines["retry"] == "eventferry projections retry mails"
    assert lines["skip"] == f"eventferry projections skip mails --event {E1} --reason …"
    assert lines["reset"] == "eventferry projections reset mails --to start --yes"


@pytest.mark.parametrize("path", ["/", "/events?type=A&entity=7", "/projections/a.b_c", "/a//b"])
def test_a_path_of_ours_is_gone_back_to(path: str) -> None:
    assert own_path(path) == path


@pytest.mark.parametrize(
    "path", ["", "a", "//evil", "/\\evil", "/a\\b", "/\t/evil", "\t//evil", "/\n/evil", "http://a"]
)
def test_where_a_browser_might_leave_us_nobody_is_sent(path: str) -> None:
    assert own_path(path) is None
