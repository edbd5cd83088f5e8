"""When it is operated: who is there, how far things are, what ends."""

from __future__ import annotations

from tools.sabotages import PRESENCE, QUERIES, RUN, STATUS, TESTS, WORKER, sabotage

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
        (
            PRESENCE,
            "count.failures += ended.failed",
            "count.failures += ended.end.value == 'failed'",
        ),
    ),
    sabotage(
        "reports never renewed",
        f"{PRESENT}::test_a_worker_reports_what_changes",
        (PRESENCE, 'before["age_s"] < REPORT_S and all(', 'before["age_s"] < REPORT_S or all('),
    ),
    sabotage(
        "statistics never forgotten",
        f"{PRESENT}::test_what_is_old_is_forgotten",
        (PRESENCE, 'await conn.execute(sql.query("forget_statistics"))', "pass"),
    ),
)
