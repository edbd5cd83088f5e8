"""When it is operated: who is there, how far things are, what ends."""

from __future__ import annotations

from tools.sabotages import (
    ENGINE,
    PRESENCE,
    QUERIES,
    RUN,
    STATISTICS,
    STATUS,
    TESTS,
    WORKER,
    sabotage,
)

PRESENT = f"{TESTS}/test_presence.py"

SABOTAGES = (
    sabotage(
        "a start that is stopped begins another batch",
        f"{TESTS}/test_controls.py"
        "::test_a_start_that_finds_a_batch_busy_while_it_is_stopped_begins_no_other",
        (RUN, "if self.stops not in (None, known.stops):", "if False:"),
    ),
    sabotage(
        "a restart that nobody hears",
        f"{PRESENT}::test_restart_ends_all_processes_after_their_batches",
        (
            WORKER,
            "        self.is_asked = True\n        self.stop()",
            "        self.is_asked = True",
        ),
    ),
    sabotage(
        "a process that leaves its row behind",
        f"{PRESENT}::test_status_names_the_processes_that_run_a_projection",
        (PRESENCE, 'await self._try("runners", self._leave)', "pass"),
    ),
    sabotage(
        "the dead taken for alive",
        f"{PRESENT}::test_one_that_is_killed_is_not_taken_for_alive",
        (STATUS, "if runner.is_alive]", "]"),
    ),
    sabotage(
        "the newest version taken for the one that was seen last",
        f"{PRESENT}::test_a_process_with_older_code_than_another_is_marked",
        (f"{QUERIES}/runners.sql", "ORDER BY first_at DESC", "ORDER BY first_at"),
    ),
    sabotage(
        "failures of earlier runs counted again",
        f"{PRESENT}::test_short_runs_count_and_report_too",
        (STATISTICS, "if ended.handled or ended.failed:", "if True:"),
        (STATISTICS, '"failures": done.failed', '"failures": int(done.end.value == "failed")'),
    ),
    sabotage(
        "the call that fails is not timed",
        f"{TESTS}/test_statistics.py::test_calls_that_fail_are_timed_too",
        (ENGINE, "self.calls_s.append(clock() - self.begun)", "pass"),
    ),
    sabotage(
        "the lag of who has failed is not kept",
        f"{TESTS}/test_statistics.py::test_the_lag_of_what_has_failed_is_kept",
        (PRESENCE, "self._unwritten.seen(", "(lambda *_: None)("),
    ),
    sabotage(
        "who rests writes statistics",
        f"{TESTS}/test_statistics.py::test_who_rests_caught_up_writes_nothing",
        (STATISTICS, "names = done.keys() | behind", "names = done.keys() | lags.keys()"),
    ),
    sabotage(
        "a store that is away fails the scrape",
        f"{TESTS}/test_metrics.py::test_a_store_that_is_away_is_told_and_costs_no_scrape",
        (
            "src/eventferry/metrics.py",
            "statuses = await status(pools.only(there), projections)",
            "statuses = await status(pools, projections)",
        ),
    ),
    sabotage(
        "reports never renewed",
        f"{PRESENT}::test_a_worker_reports_what_changes",
        (
            PRESENCE,
            "if age_s(one.name) < REPORT_S and all(",
            "if age_s(one.name) < REPORT_S or all(",
        ),
    ),
    sabotage(
        "two schedules at once",
        f"{TESTS}/test_schedule.py::test_a_second_one_ends_quietly_and_the_first_goes_on",
        (
            "src/eventferry/lock.py",
            "fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)",
            "fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)",
        ),
    ),
    sabotage(
        "a crashed projection not started again",
        f"{TESTS}/test_schedule.py::test_a_killed_projection_comes_back_and_goes_on",
        (
            "src/eventferry/schedule.py",
            "await self._stopping.wait()",
            "await asyncio.Event().wait()",
        ),
        ("src/eventferry/schedule.py", "min(longest, first *", "(1e9 +"),
    ),
    sabotage(
        "a blocked loop taken for alive",
        f"{TESTS}/test_probes.py::test_a_loop_that_is_blocked_is_not_alive",
        ("src/eventferry/health.py", "if age > self._limit_s:", "if False:"),
    ),
    sabotage(
        "who ends when idle looks but once for a stream",
        f"{TESTS}/test_worker.py::test_a_stream_that_a_ferry_has_just_made_is_not_missed",
        (WORKER, "again = number == 0 and any(", "again = False and any("),
    ),
    sabotage(
        "statistics never forgotten",
        f"{PRESENT}::test_what_is_old_is_forgotten",
        (PRESENCE, 'await conn.execute(sql.query("forget_statistics"))', "pass"),
    ),
)
