"""Act 3: the handler has a bug, and an event finds it. The projection stands still until a fix."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from eventferry import cloudevent
from eventferry.demo import journal
from eventferry.demo.failure import DemoFailed
from eventferry.demo.process import until
from eventferry.demo.stage import FAILED, MAIL_ROLES, STREAM, Stage
from eventferry.demo.traffic import line, made_up

BUG: Final = 'event.data.get("email", "").lower()'
FIX: Final = '(event.data.get("email") or "").lower()'
BEHIND: Final = 100
"""Events that pile up behind the one that finds the bug."""
STALL_S: Final = 30.0
FILE: Final = "by-phone.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How the failed projection was shown."""

    shown: tuple[str, ...]
    """The lines of `projections status` that are about the failure."""
    behind: int
    """Events that wait."""


def fail(stage: Stage) -> Failure:
    """Appends an event that the handler can't handle, and some behind it.

    Raises:
        DemoFailed: the projection did not fail, or does not say so.
    """
    _append(stage, line("UserRegistered", "phone-user", {"email": None, "phone": "+49 30 901820"}))
    writer = stage.start_writer(list(made_up(BEHIND, name="waiting-user")))
    if writer.wait(STALL_S) != 0:
        raise DemoFailed(f"{writer.name} has failed{writer.last_words()}")
    until(
        lambda: stage.query("mail", FAILED),
        "the projection to fail",
        within_s=STALL_S,
        check=stage.check_processes,
    )
    until(
        lambda: stage.count()[1] == stage.count()[0],
        "the events behind it to be ferried",
        within_s=STALL_S,
        check=stage.check_processes,
    )
    _, output, errors = stage.try_command("mail", "projections", "status")
    told = [text.strip() for text in output.splitlines()]
    shown = tuple(text for text in told if text.startswith(("event ", "error ")))
    if len(shown) < 2:
        raise DemoFailed(f"`eventferry projections status` does not show why:\n{output}{errors}")
    appended, _, handled = stage.count()
    return Failure(shown=shown, behind=appended - handled)


def fix(stage: Stage) -> tuple[str, str]:
    """Rewrites the handler, and starts its workers again: the line before, and after."""
    module = stage.home("mail") / "handlers.py"
    source = module.read_text()
    module.write_text(source.replace(BUG, FIX))
    for name in MAIL_ROLES:
        stage.workers[name].terminate()
    for name in MAIL_ROLES:
        stage.workers.pop(name).stop()
        stage.start_worker("mail", name)
    before = next(text for text in source.splitlines() if BUG in text)
    return before.strip(), before.replace(BUG, FIX).strip()


def retry(stage: Stage) -> float:
    """Retries the projection, and follows it to the head: how many seconds that took.

    Raises:
        DemoFailed: it failed again, or did not get there.
    """
    begun = time.monotonic()
    stage.command("mail", "projections", "retry", "--wait")
    seconds = time.monotonic() - begun
    if stage.count()[2] < stage.count()[0]:
        raise DemoFailed("`eventferry projections retry --wait` has ended before the head")
    return seconds


def _append(stage: Stage, text: str) -> None:
    """With the command line, from a file; noted as any writer would."""
    (stage.home("users") / FILE).write_text(f"{text}\n")
    begun_at = time.time()
    stage.command("users", "events", "append", STREAM, FILE)
    with (stage.folder / "events" / "command-line.journal").open("x") as file:
        journal.note(file, [cloudevent.parse(text).event], committed=True, begun_at=begun_at)
