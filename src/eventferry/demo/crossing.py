"""Act 1: many events cross, while a worker is killed inside an open batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eventferry.demo import journal
from eventferry.demo.naive import NaiveReader
from eventferry.demo.process import until
from eventferry.demo.stage import MAIL_ROLES, Stage
from eventferry.demo.traffic import dealt

WRITERS = 4
STALL_S = 30.0
KILLS = 8
"""How often to try, as a batch may commit in the moment in which its worker is killed."""
ENOUGH = 200
"""So many handled events make an open batch worth a kill; later on, fewer do."""

# Whose transaction has written mails that are not committed, and how many numbers it has drawn.
OPEN_BATCH = """
SELECT activity.usename AS worker, locks.pid AS backend, committed, last_value - committed AS events
  FROM mails_number_seq, (SELECT coalesce(max(number), 0) AS committed FROM mails) AS done,
       pg_locks AS locks JOIN pg_stat_activity AS activity USING (pid)
 WHERE locks.relation = 'mails'::regclass AND locks.mode = 'RowExclusiveLock' AND is_called
"""
IS_THERE = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
DRAWN = "SELECT last_value FROM mails_number_seq"
COMMITTED = "SELECT coalesce(max(number), 0) FROM mails"
# The numbers that no committed row has, after the one given, and when handling went on after them.
ROLLED_BACK = """
SELECT coalesce(sum(gap), 0)::int AS events,
       extract(epoch FROM min(handled_at))::float AS resumed_at
  FROM (SELECT number - lag(number, 1, %s::bigint) OVER (ORDER BY number) - 1 AS gap, handled_at
          FROM mails WHERE number > %s) AS numbered
 WHERE gap > 0
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """A worker that was killed inside an open batch."""

    pid: int
    rolled_back: int
    """Events that its batch had handled."""
    resumed_s: float
    """From the kill to the first event that another worker handled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """What came of the act."""

    events: int
    transactions: int
    rolled_back: int
    """Transactions of the writers that were."""
    seconds: float
    """From the first append to the last effect."""
    kill: Kill | None
    """None: no batch was open for long enough, as there were few events."""
    naive_missed: int
    """Events that a reader of `position > last` has not got."""


def cross(stage: Stage, lines: Sequence[str], on_kill: Callable[[Kill | None], None]) -> Crossing:
    """Appends the events with several processes, and waits until all of them are handled.

    Args:
        stage: With its workers running.
        lines: The events, as CloudEvents.
        on_kill: Told of the kill, when the other worker has taken over.

    Raises:
        DemoFailed: nothing moves any more, or a process has ended.
    """
    begun = time.monotonic()
    with NaiveReader(stage.url("users")) as naive:
        writers = [stage.start_writer(hand) for hand in dealt(lines, WRITERS)]
        kill = _kill(stage, len(lines))
        on_kill(kill)
        until(
            lambda: all(writer.code is not None for writer in writers),
            "the writers to end",
            within_s=STALL_S,
            progress=stage.count,
            check=stage.check,
            every_s=0.1,
        )
        stage.check()
        seen = naive.finish()
    until(
        lambda: stage.count()[2] >= len(lines),
        f"all of the {len(lines):,} events to be handled",
        within_s=STALL_S,
        progress=stage.count,
        check=stage.check,
        every_s=0.1,
    )
    seconds = time.monotonic() - begun
    entries = journal.read(stage.journals())
    committed = [entry for entry in entries if entry.committed]
    return Crossing(
        events=len(lines),
        transactions=len(committed),
        rolled_back=len(entries) - len(committed),
        seconds=seconds,
        kill=kill,
        naive_missed=len({id_ for entry in committed for id_, _ in entry.events} - seen),
    )


def _kill(stage: Stage, expected: int) -> Kill | None:
    """Kills the worker whose batch is open, and waits until another has taken it over.

    The killed one is started again, as a supervisor would do.
    """
    for _ in range(KILLS):
        batch = until(
            lambda: _open_batch(stage, expected),
            "an open batch",
            within_s=STALL_S,
            progress=stage.count,
            check=stage.check,
            every_s=0.004,
        )
        if batch is True:
            return None
        assert isinstance(batch, dict)
        worker = stage.workers[batch["worker"]]
        killed_at = time.time()
        worker.kill()
        stage.start_worker("mail", batch["worker"])
        resumed = _resumed(stage, batch, killed_at)
        if resumed is not None:
            rolled_back, resumed_s = resumed
            return Kill(pid=worker.pid, rolled_back=rolled_back, resumed_s=resumed_s)
    return None


def _open_batch(stage: Stage, expected: int) -> dict[str, object] | bool | None:
    """The open batch, if it is worth it; True: there will be none any more."""
    done = stage.value("mail", COMMITTED) / expected
    if done >= 1:
        return True
    if done < 0.2:
        return None
    enough = max(1, ENOUGH * (1 - done) ** 2)
    for batch in stage.query("mail", OPEN_BATCH):
        if batch["events"] >= enough and batch["worker"] in MAIL_ROLES:
            return dict(batch)
    return None


def _resumed(stage: Stage, batch: dict[str, object], killed_at: float) -> tuple[int, float] | None:
    """How many events were rolled back, and when it went on; None: the batch had committed."""
    until(
        lambda: stage.value("mail", IS_THERE, batch["backend"]) == 0,
        "PostgreSQL to notice that the worker is dead",
        within_s=STALL_S,
    )
    drawn = stage.value("mail", DRAWN)
    until(
        lambda: stage.value("mail", COMMITTED) >= drawn,
        "another worker to take over",
        within_s=STALL_S,
        check=stage.check,
    )
    (gap,) = stage.query("mail", ROLLED_BACK, batch["committed"], batch["committed"])
    if not gap["events"]:
        return None
    return gap["events"], gap["resumed_at"] - killed_at
