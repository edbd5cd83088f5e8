"""Breaks the mechanism on purpose, one sabotage at a time: a named test must turn red.

    python tools/mutants.py              all of them
    python tools/mutants.py WORD …       those whose name has one of the words in it

Each sabotage is made in a copy of the tree. Its test must fail there, not for an error at its
set-up, and must pass on the copy that is left alone. A sabotage
whose text is not found is an error: then the code has changed, and the table below must follow.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("src", "tests", "tools", "pyproject.toml")
AT_A_TIME = 2
PATIENCE_S = 6
"""How long a test waits for what a sabotage may have made impossible."""
TIMEOUT_S = 120

MIGRATION = "src/eventferry/sql/migrations/0001_foundation"
CREATE_STREAM = f"{MIGRATION}/12_create_stream.sql"
WAKING = "src/eventferry/sql/migrations/0003_waking"
HORIZON = f"{WAKING}/01_horizon.sql"
MARK = f"{WAKING}/02_mark.sql"
QUERIES = "src/eventferry/sql/queries"
ENGINE = "src/eventferry/engine/_async.py"
FERRY = "src/eventferry/engine/ferry.py"
SOURCE = "src/eventferry/source.py"
RUN = "src/eventferry/run.py"
STEP = "src/eventferry/step.py"
WORKER = "src/eventferry/worker.py"
WATCH = "src/eventferry/watch.py"
CHECKPOINT = "src/eventferry/checkpoint.py"

INTERLEAVING = "tests/integration/test_engine_interleaving.py"
TESTS = "tests/integration"


@dataclass(frozen=True, slots=True)
class Change:
    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Sabotage:
    name: str
    test: str
    """The test that must notice, and be green without it."""
    changes: tuple[Change, ...]


def sabotage(name: str, test: str, *changes: tuple[str, str, str]) -> Sabotage:
    return Sabotage(name, test, tuple(Change(*change) for change in changes))


SLEEPERS_TEST = """    IF (CASE WHEN pg_catalog.pg_try_advisory_lock(TG_ARGV[2]::integer, 0)
             THEN NOT pg_catalog.pg_advisory_unlock(TG_ARGV[2]::integer, 0)
             ELSE true END)
    THEN
        IF COALESCE(pg_catalog.current_setting('eventferry.notify', true), '')
            OPERATOR(pg_catalog.<>) 'off'
        THEN
            PERFORM pg_catalog.pg_notify('eventferry', TG_ARGV[0]);
        END IF;
    END IF;
"""
HEAD = "    head := coalesce(pg_sequence_last_value('eventferry.positions'), 0);\n"
MARKERS = """      INTO horizon, in_flight
      FROM pg_locks
     WHERE locktype = 'advisory'
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND objsubid = 2
       AND mode = 'ShareLock'
       AND classid = ANY (keys);
"""

SABOTAGES = (
    # ---- the marker
    sabotage(
        "marker after the first draw",
        f"{INTERLEAVING}::test_the_marker_is_there_before_the_first_position_is_drawn",
        (CREATE_STREAM, "CREATE TRIGGER mark BEFORE INSERT", "CREATE TRIGGER mark AFTER INSERT"),
    ),
    sabotage(
        "marker of a later value",
        f"{TESTS}/test_engine.py::test_an_open_append_is_not_passed_and_then_comes_in_its_place",
        (
            MARK,
            "drawn := pg_catalog.pg_sequence_last_value('eventferry.positions');",
            "drawn := pg_catalog.pg_sequence_last_value('eventferry.positions') + 2;",
        ),
    ),
    sabotage(
        "a NULL sequence value not handled by the marker",
        f"{INTERLEAVING}::test_the_first_append_of_a_store_is_in_flight",
        (MARK, "        drawn := 0;\n", ""),
        (MARK, "drawn::integer) IS NOT TRUE THEN", "drawn::integer) IS FALSE THEN"),
    ),
    sabotage(
        "a NULL sequence value not handled by the horizon",
        f"{INTERLEAVING}::test_the_first_append_of_a_store_is_in_flight",
        (HORIZON, HEAD, "    head := pg_sequence_last_value('eventferry.positions');\n"),
    ),
    sabotage(
        "one marker an INSERT",
        f"{TESTS}/test_sql_streams.py::test_ten_thousand_inserts_take_one_marker",
        (MARK, "OPERATOR(pg_catalog.=) xid THEN", "OPERATOR(pg_catalog.=) 'never' THEN"),
    ),
    sabotage(
        "synchronous_commit left off",
        f"{TESTS}/test_sql_streams.py"
        "::test_an_append_commits_synchronously_whatever_the_session_says",
        (
            MARK,
            "pg_catalog.set_config('synchronous_commit', 'on', true)",
            "pg_catalog.set_config('synchronous_commit', 'off', true)",
        ),
    ),
    # ---- the horizon
    sabotage(
        "markers read before the head",
        f"{INTERLEAVING}::test_an_append_between_the_head_and_the_markers_is_not_passed",
        (HORIZON, HEAD, ""),
        (
            HORIZON,
            "SELECT least(head, min(head + ((objid::bigint - head) << 32 >> 32))), count(*)",
            "SELECT min(objid::bigint), count(*)",
        ),
        (HORIZON, MARKERS, f"{MARKERS}{HEAD}    horizon := least(head, horizon);\n"),
    ),
    sabotage(
        "horizon and rows in one snapshot",
        f"{INTERLEAVING}::test_what_commits_while_the_horizon_is_asked_is_read",
        (
            HORIZON,
            "IF current_setting('transaction_isolation') <> 'read committed' THEN",
            "IF false THEN",
        ),
        (
            SOURCE,
            (
                "            seen = await look(conn, checkpoints, self.projection, self.store)\n"
                "            size = limit + _own(checkpoints)\n"
                "            async with event_cursor(conn) as cursor:\n"
            ),
            (
                "            await conn.set_isolation_level(None)\n"
                '            await conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")\n'
                "            seen = await look(conn, checkpoints, self.projection, self.store)\n"
                "            size = limit + _own(checkpoints)\n"
                "            async with event_cursor(conn) as cursor:\n"
            ),
        ),
    ),
    sabotage(
        "low 32 bits compared unsigned",
        f"{TESTS}/test_horizon.py::test_the_horizon_is_right_where_the_marker_wraps_around",
        (
            HORIZON,
            "head + ((objid::bigint - head) << 32 >> 32)",
            "(head >> 32 << 32) + objid::bigint",
        ),
    ),
    sabotage(
        "each stream's own horizon instead of the smallest",
        f"{TESTS}/test_engine.py::test_an_open_append_to_one_of_its_streams_holds_them_all",
        (HORIZON, "classid = ANY (keys)", "classid = keys[1]"),
    ),
    sabotage(
        "no horizon",
        f"{TESTS}/test_engine.py::test_an_open_append_is_not_passed_and_then_comes_in_its_place",
        (
            HORIZON,
            "SELECT least(head, min(head + ((objid::bigint - head) << 32 >> 32))), count(*)",
            "SELECT head, count(*)",
        ),
    ),
    # ---- the checkpoint
    sabotage(
        "checkpoint moved to the horizon",
        f"{TESTS}/test_ferry.py"
        "::test_the_checkpoint_of_a_ferry_moves_to_events_and_not_to_the_horizon",
        (
            SOURCE,
            "        return replace(page, work=rows, marks=marks[len(marks) - page.count :])",
            (
                "        at = [mark._replace(position=seen.position) for mark in marks[-1:]]\n"
                "        done = marks[len(marks) - page.count : -1] + at\n"
                "        return replace(page, work=rows, marks=done if page.count else [])"
            ),
        ),
    ),
    sabotage(
        "no row lock",
        f"{INTERLEAVING}::test_one_runner_alone_is_inside_of_a_batch",
        (f"{QUERIES}/lock_checkpoints.sql", "   FOR UPDATE SKIP LOCKED\n", ""),
    ),
    sabotage(
        "a page not compared with the locked checkpoint",
        f"{TESTS}/test_engine.py"
        "::test_a_page_is_dropped_when_another_runner_has_moved_the_checkpoint",
        (ENGINE, "            return Moved()\n", "            pass\n"),
        (
            f"{QUERIES}/move_checkpoints.sql",
            "checkpoint.position = moved.old",
            "checkpoint.position >= moved.old",
        ),
    ),
    sabotage(
        "checkpoint outside of the transaction",
        f"{TESTS}/test_handlers.py::test_effect_and_checkpoint_are_in_one_transaction",
        (
            ENGINE,
            "return await self._move(conn, checkpoints, batch, locked)",
            (
                'await conn.execute("COMMIT"); '
                "return await self._move(conn, checkpoints, batch, locked)"
            ),
        ),
        (f"{QUERIES}/move_checkpoints.sql", "pg_current_xact_id()::text = %s", "%s <> ''"),
    ),
    sabotage(
        "checkpoint moved in whatever transaction there is",
        f"{TESTS}/test_engine_failure.py"
        "::test_a_handler_that_commits_fails_and_the_checkpoint_stays[commit_and_go_on]",
        (f"{QUERIES}/move_checkpoints.sql", "pg_current_xact_id()::text = %s", "%s <> ''"),
    ),
    sabotage(
        "a swallowed error of the database not noticed",
        f"{TESTS}/test_engine_failure.py::test_a_handler_that_breaks_the_transaction_fails"
        "[swallow_an_error-Let the error out, or make a savepoint]",
        (ENGINE, "transaction_status == INERROR:", "transaction_status == None:"),
    ),
    sabotage(
        "a connection good for more than its batch",
        f"{TESTS}/test_engine_failure.py"
        "::test_a_connection_that_a_thread_has_kept_is_of_no_use_in_the_next_batch",
        (ENGINE, "                conn.pgconn = ENDED\n", "                pass\n"),
    ),
    # ---- verified always
    sabotage(
        "the checkpoint's own event not verified",
        f"{TESTS}/test_engine.py"
        "::test_a_store_that_was_restored_from_a_backup_is_noticed[3-consuming]",
        (
            CHECKPOINT,
            (
                "        if (mark.position, mark.event_id) != (checkpoint.position, "
                "checkpoint.event_id):\n"
            ),
            "        if False:\n",
        ),
    ),
    sabotage(
        "a stream that ends before the checkpoint not noticed",
        f"{TESTS}/test_engine.py"
        "::test_a_store_that_was_restored_from_a_backup_is_noticed[0-producing]",
        (CHECKPOINT, "    if complete and expected:\n", "    if False:\n"),
    ),
    sabotage(
        "the stream's incarnation not verified",
        f"{TESTS}/test_engine.py::test_a_stream_that_was_created_again_is_noticed",
        (CHECKPOINT, "if checkpoint.incarnation != incarnation:", "if False:"),
        (
            ENGINE,
            "(incarnation, position, event_id) != (c.incarnation, c.position, c.event_id)",
            "(position, event_id) != (c.position, c.event_id)",
        ),
    ),
    # ---- failures
    sabotage(
        "good events before a failing one not kept",
        f"{TESTS}/test_engine_failure.py"
        "::test_the_good_events_before_a_failing_one_are_kept[3-False]",
        (
            RUN,
            "                one_by_one = outcome.index + 1\n                continue\n",
            "                return outcome\n",
        ),
    ),
    sabotage(
        "a mutated event used again",
        f"{TESTS}/test_engine_failure.py"
        "::test_an_event_that_a_handler_has_changed_is_fresh_when_it_is_tried_again",
        (SOURCE, "event = self.work[0].fresh()", "event = self.work[0]"),
    ),
    sabotage(
        "a failure recorded that another runner has got past",
        f"{TESTS}/test_engine.py::test_a_failure_that_another_runner_has_got_past_is_not_recorded",
        (RUN, "at[mark.stream] >= mark.position", "at[mark.stream] < 0"),
    ),
    sabotage(
        "other content under a ferried id not noticed",
        f"{TESTS}/test_ferry.py::test_another_event_under_the_same_id_fails_the_ferry_and_is_named",
        (FERRY, "        if differing:\n", "        if differing and not differing:\n"),
    ),
    # ---- waking
    sabotage(
        "a locked checkpoint taken for no work",
        "tests/unit/test_step.py::test_only_who_is_caught_up_sleeps_until_woken",
        (
            STEP,
            "return Step(wait_s=0.1 + 0.9 * chance)",
            "return Step() if asleep else Step(sleep=True)",
        ),
    ),
    sabotage(
        "no last look before sleeping",
        f"{INTERLEAVING}::test_an_append_just_before_the_sleep_is_seen_by_the_last_look",
        (
            WORKER,
            "if step.sleep and await watch.sleep(",
            "if step.sleep and not await watch.sleep(",
        ),
    ),
    sabotage(
        "an append between the head and the markers slept over",
        f"{INTERLEAVING}::test_what_is_appended_while_the_horizon_is_asked_is_no_reason_to_sleep",
        (HORIZON, "in_flight := in_flight + 1;", "NULL;"),
    ),
    sabotage(
        "sleepers looked at before the marker",
        f"{INTERLEAVING}::test_a_reader_that_goes_to_sleep_inside_of_an_append_gets_it",
        (MARK, SLEEPERS_TEST, ""),
        (
            MARK,
            "    -- its low 32 bits, as a signed integer\n",
            f"{SLEEPERS_TEST}    -- its low 32 bits, as a signed integer\n",
        ),
    ),
    sabotage(
        "only one append allowed to notify",
        f"{TESTS}/test_watch.py"
        "::test_the_first_of_two_writers_rolls_back_and_the_second_still_wakes",
        (
            MARK,
            "             ELSE true END)\n    THEN\n",
            (
                "             ELSE true END)\n"
                "       AND pg_catalog.pg_try_advisory_xact_lock(TG_ARGV[2]::integer, 1)\n"
                "    THEN\n"
            ),
        ),
    ),
    sabotage(
        "everybody notifies always",
        f"{INTERLEAVING}::test_an_append_notifies_nobody_while_nobody_sleeps",
        (
            MARK,
            "             ELSE true END)\n    THEN\n",
            "             ELSE true END) OR true\n    THEN\n",
        ),
    ),
    sabotage(
        "who was awake for a while taken for asleep",
        f"{TESTS}/test_watch.py::test_nobody_is_notified_while_the_reader_is_awake",
        (WORKER, "asleep and watch.is_asleep(", "asleep or watch.is_asleep("),
    ),
    sabotage(
        "no look after a lost ear is replaced",
        f"{TESTS}/test_watch.py::test_a_lost_ear_is_replaced_and_nothing_is_missed",
        (WATCH, "            self.wake(self.readers)\n            try:\n", "            try:\n"),
    ),
)


def main(words: Sequence[str]) -> int:
    chosen = [s for s in SABOTAGES if not words or any(word in s.name for word in words)]
    stale = [f"{s.name}: {error}" for s in chosen if (error := missing(s))]
    if stale:
        print("The code has changed, and this table has not:", *stale, sep="\n  ")
        return 1
    with tempfile.TemporaryDirectory(prefix="eventferry-mutants-") as folder:
        base = Path(folder)
        if not are_green(base / "original", sorted({s.test for s in chosen})):
            return 1
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            noticed = list(
                pool.map(lambda n: is_noticed(base / str(n), chosen[n]), range(len(chosen)))
            )
    survivors = [s.name for s, is_red in zip(chosen, noticed, strict=True) if not is_red]
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} sabotages noticed")
    return 1 if survivors else 0


def missing(one: Sabotage) -> str:
    """Which text of the sabotage is not in the code exactly once; empty: all is there."""
    for change in one.changes:
        count = (ROOT / change.file).read_text().count(change.old)
        if count != 1:
            return f"{change.file} has {count} times {change.old.strip().splitlines()[0]!r}"
    return ""


def are_green(copy: Path, tests: Sequence[str]) -> bool:
    make_copy(copy)
    done = pytest(copy, [*tests, "-n", str(AT_A_TIME)])
    if done.returncode != 0:
        print("Without any sabotage, these are red already:", done.stdout, sep="\n")
    return done.returncode == 0


def is_noticed(copy: Path, one: Sabotage) -> bool:
    """Makes the sabotage in a copy of the tree, and runs its test there."""
    began = time.monotonic()
    make_copy(copy)
    for change in one.changes:
        path = copy / change.file
        path.write_text(path.read_text().replace(change.old, change.new))
    run([sys.executable, "tools/async_to_sync.py"], copy)
    done = pytest(copy, [one.test])
    # failed: not by an error at its set-up, and not for lack of such a test
    is_red = done.returncode == 1 and "\nFAILED " in done.stdout
    verdict = "noticed " if is_red else "SURVIVED"
    test = one.test.rpartition("::")[2]
    print(f"{verdict} {one.name:<58} {time.monotonic() - began:4.0f} s  {test}", flush=True)
    if not is_red:
        print(done.stdout[-2000:], flush=True)
    shutil.rmtree(copy)
    return is_red


def make_copy(folder: Path) -> None:
    folder.mkdir()
    for name in COPIED:
        path = ROOT / name
        if path.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(path, folder / name, ignore=ignored)
        else:
            shutil.copy(path, folder / name)


def pytest(folder: Path, arguments: Iterable[str]) -> subprocess.CompletedProcess[str]:
    return run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", *arguments],
        folder,
    )


def run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """In the copy, whose modules come before those that are installed."""
    environment = os.environ | {
        "PYTHONPATH": str(folder / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "EVENTFERRY_TEST_PATIENCE_S": str(PATIENCE_S),
    }
    return subprocess.run(
        command,
        check=False,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S * 3,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
