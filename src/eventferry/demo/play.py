"""The play: four acts on one stage, and what is said about them."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, get_args

from rich.console import Console

from eventferry.demo import bug, journal
from eventferry.demo.crossing import Crossing, Kill, cross
from eventferry.demo.failure import DemoFailed, DemoMisused
from eventferry.demo.flow import Flow
from eventferry.demo.screen import Screen
from eventferry.demo.stage import MAIL_ROLES, STREAM, Database, Stage, shown, staged
from eventferry.demo.traffic import from_file, made_up
from eventferry.demo.trickle import Latency, count, trickle
from eventferry.demo.verdict import Verdict, judge
from eventferry.embedded import EmbeddedServerError
from eventferry.process import deaf_in_the_end, interruptible

FAILED = 1
WRONG = 2
INTERRUPTED = 130

OFF = {"type": "VerdictOff", "message": "an event was lost, doubled, or out of order: see data"}

Told = tuple[Verdict, dict[str, Any]]

LOCAL_IDS = 'SELECT id FROM streams."users-stream" ORDER BY position'
HANDLED_IDS = "SELECT event_id AS id FROM mails ORDER BY number"


def play(*, events: int, file: Path | None, keep: bool, as_json: bool, trickle_s: float) -> int:
    """Plays all of it, and cleans up, whatever happens. Returns the exit code."""
    screen = Screen(Console(stderr=as_json, highlight=False))
    try:
        lines = from_file(file) if file else list(made_up(events))
        with interruptible(), staged() as stage, deaf_in_the_end():
            return _play(stage, screen, lines, keep=keep, as_json=as_json, trickle_s=trickle_s)
    except KeyboardInterrupt:
        print("stopped; nothing is left of the demo", file=sys.stderr)
        return INTERRUPTED
    except (EmbeddedServerError, DemoMisused) as error:
        return _fail(error, WRONG, as_json=as_json)
    except DemoFailed as error:
        return _fail(error, FAILED, as_json=as_json)


def _play(
    stage: Stage,
    screen: Screen,
    lines: Sequence[str],
    *,
    keep: bool,
    as_json: bool,
    trickle_s: float,
) -> int:
    verdict, measured = _acts(stage, screen, lines, trickle_s)
    urls = {database: stage.url(database) for database in get_args(Database)} if keep else {}
    if as_json:
        data = {**verdict.as_dict(), **measured, **({"urls": urls} if keep else {})}
        _print_envelope(data, [] if verdict.is_clean else [OFF])
    if keep:
        with suppress(KeyboardInterrupt):  # the way to end it, and no reason to complain
            _keep(stage, screen, urls)
    return 0 if verdict.is_clean else FAILED


def _acts(stage: Stage, screen: Screen, lines: Sequence[str], trickle_s: float) -> Told:
    version = stage.value("shared", "SHOW server_version")
    screen.headline(
        "eventferry demo: what happens in service users gets to service mail, exactly once "
        f"(PostgreSQL {version})"
    )
    screen.explain(
        "Each service has its own database; between them is a shared one. An event is stored with "
        "what it is about, in one transaction, ferried to the shared store, and handed to a "
        "handler there."
    )
    _set_up(stage, screen)
    begun = time.monotonic()
    flow = Flow(stage, len(lines) + count(trickle_s) + 1 + bug.BEHIND)
    with flow if screen.is_live else nullcontext(), screen.showing(flow):
        crossing = _act_1(stage, screen, lines)
        latency = _act_2(stage, screen, trickle_s)
        _act_3(stage, screen)
    verdict = _act_4(stage, screen, crossing)
    return verdict, {
        "naive_missed": crossing.naive_missed,
        "seconds": round(time.monotonic() - begun, 1),
        "events_per_second": round(crossing.events / crossing.seconds),
        "kill": crossing.kill
        and {
            "pid": crossing.kill.pid,
            "events_rolled_back": crossing.kill.rolled_back,
            "resumed_s": round(crossing.kill.resumed_s, 3),
        },
        "latency_ms": {
            "events": latency.events,
            "p50": round(latency.p50_ms, 1),
            "p99": round(latency.p99_ms, 1),
        },
    }


def _set_up(stage: Stage, screen: Screen) -> None:
    create = ("streams", "create", STREAM)
    screen.commands(
        ("users", f"eventferry migrate && {shown(*create)}", "once"),
        ("mail", "eventferry migrate", "once"),
    )
    stage.command("users", "migrate")
    stage.command("users", *create)
    stage.command("mail", "migrate")


def _act_1(stage: Stage, screen: Screen, lines: Sequence[str]) -> Crossing:
    screen.act(1, f"{len(lines):,} events, and a worker is killed. The handler of service mail:")
    screen.code((stage.home("mail") / "handlers.py").read_text())
    screen.commands(
        ("users", "eventferry worker", "ferries users-stream to the shared store"),
        ("mail", "eventferry worker", "hands it to the handler"),
        ("mail", "eventferry worker", "another one, as it could be on another machine"),
    )
    stage.start_worker("users", "users-worker")
    for name in MAIL_ROLES:
        stage.start_worker("mail", name)
    stage.wait_for_workers()
    screen.explain(
        "Four processes append at a time. Some of their transactions stay open for a moment, so "
        "that events appear behind later ones; some are rolled back. One worker gets a kill -9."
    )
    crossing = cross(stage, lines, lambda kill: _tell_of(kill, screen))
    screen.say(
        f"{crossing.events:,} events in {crossing.transactions:,} transactions "
        f"({crossing.rolled_back:,} more rolled back), ferried and handled in "
        f"{crossing.seconds:.1f} s"
    )
    return crossing


def _tell_of(kill: Kill | None, screen: Screen) -> None:
    if kill is None:
        screen.say("no worker was killed: with so few events, none was caught inside a batch")
        return
    screen.say(
        f"pid {kill.pid} killed, {kill.rolled_back:,} events rolled back, "
        f"resumed {_duration(kill.resumed_s)} later",
        style="bold",
    )


def _act_2(stage: Stage, screen: Screen, seconds: float) -> Latency:
    screen.act(2, f"a trickle for {seconds:.0f} s", joined=True)
    latency = trickle(stage, seconds)
    screen.say(
        f"{latency.events} events, from append to handler over both hops: "
        f"p50 {latency.p50_ms:.1f} ms, p99 {latency.p99_ms:.1f} ms"
    )
    return latency


def _act_3(stage: Stage, screen: Screen) -> None:
    screen.act(3, "a user without an email finds a bug in the handler")
    screen.commands(
        ("users", shown("events", "append", STREAM, bug.FILE), '{"email": null, …}'),
    )
    failure = bug.fail(stage)
    screen.commands(("mail", "eventferry projections status", ""), joined=True)
    screen.say(f"mail-projection has failed; {failure.behind:,} events wait, in order")
    screen.output(failure.shown)
    screen.change(*bug.fix(stage))
    screen.explain("The fix is deployed: handlers.py is rewritten, the workers are new.")
    screen.commands(("mail", "eventferry projections retry --wait", ""), joined=True)
    screen.say(f"at the head again, after {bug.retry(stage):.1f} s")


def _act_4(stage: Stage, screen: Screen, crossing: Crossing) -> Verdict:
    screen.act(4, "the verdict, from what the writers logged", joined=True)
    verdict = judge(
        journal.read(stage.journals()),
        local=[row["id"] for row in stage.query("users", LOCAL_IDS)],
        shared=[row["id"] for row in stage.query("shared", LOCAL_IDS)],
        handled=[row["id"] for row in stage.query("mail", HANDLED_IDS)],
    )
    screen.explain(
        "What came back from each COMMIT, against the rows of mail's table, which has no unique "
        "key that would hide a second handling."
    )
    screen.verdict(verdict.numbers(), is_clean=verdict.is_clean)
    screen.say(
        f"a reader of `position > last` on the same stream missed {crossing.naive_missed:,} "
        f"of the {crossing.events:,} events of act 1"
        + ("" if crossing.naive_missed else ", this time")
    )
    return verdict


def _keep(stage: Stage, screen: Screen, urls: Mapping[str, str]) -> None:
    """Leaves everything running until a signal comes."""
    for database, url in urls.items():
        screen.say(f'{database:<7} psql "{url}"')
    screen.say(f"the services, {stage.folder}/users and …/mail, run on; Ctrl-C removes all of it")
    while True:
        time.sleep(3600)


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 0.1 else f"{seconds * 1000:.0f} ms"


def _fail(error: Exception, code: int, *, as_json: bool) -> int:
    if as_json:
        _print_envelope(None, [{"type": type(error).__name__, "message": str(error)}])
    else:
        print(f"error: {error}", file=sys.stderr)
    return code


def _print_envelope(data: Mapping[str, Any] | None, errors: Sequence[Mapping[str, str]]) -> None:
    """As every command's `--json`."""
    print(
        json.dumps({"ok": not errors, "command": "demo", "data": data, "errors": errors}),
        flush=True,
    )
