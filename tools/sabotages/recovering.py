"""What is done about what fails: attempts, parking, deaths, outages, controls."""

from __future__ import annotations

from tools.sabotages import (
    ENGINE,
    QUERIES,
    RECOVERY,
    RUN,
    SETTLE,
    TESTS,
    sabotage,
)

POLICIES = f"{TESTS}/test_failure_policies.py"
CONTROLS = f"{TESTS}/test_cli_controls.py"
CONTROL = "src/eventferry/control.py"
RACES = f"{TESTS}/test_controls_race.py"
DEATHS = f"{TESTS}/test_outage_and_death.py"

SABOTAGES = (
    # ---- attempts
    sabotage(
        "the batch pass counted as an attempt",
        f"{POLICIES}::test_an_event_is_tried_as_often_as_the_policy_says",
        (
            RUN,
            "if self._is_late_for_once(outcome) or not outcome.alone:",
            "if self._is_late_for_once(outcome):",
        ),
    ),
    sabotage(
        "tried again before its time",
        f"{POLICIES}::test_before_its_time_the_event_is_not_tried_and_nothing_overtakes_it",
        (RUN, "        if known.due_s:\n", "        if False:\n"),
    ),
    sabotage(
        "pauses that grow without end",
        f"{POLICIES}::test_the_pauses_double_up_to_the_longest_and_vary",
        (f"{QUERIES}/record_failure.sql", "least(longest, first * 2.0", "(first * 2.0"),
    ),
    # ---- parking
    sabotage(
        "later events of a parked entity handled",
        f"{POLICIES}::test_an_event_is_parked_and_the_later_ones_of_its_entity_behind_it",
        (ENGINE, "return (event.stream, event.entity_id) in self.behind", "return False"),
    ),
    sabotage(
        "everybody waits behind a parked entity",
        f"{POLICIES}::test_an_event_is_parked_and_the_later_ones_of_its_entity_behind_it",
        (
            ENGINE,
            "return (event.stream, event.entity_id) in self.behind",
            "return bool(self.behind)",
        ),
    ),
    sabotage(
        "later events of a parked entity forgotten",
        f"{POLICIES}::test_an_event_is_parked_and_the_later_ones_of_its_entity_behind_it",
        (ENGINE, "                await self._park(conn, batch)\n", ""),
    ),
    sabotage(
        "unparked beside a running batch",
        f"{POLICIES}::test_unparking_waits_for_the_batch_that_may_park_more_of_the_entity",
        (f"{QUERIES}/wait_for_checkpoints.sql", " FOR UPDATE OF checkpoints\n", "\n"),
    ),
    sabotage(
        "unparked past the first of its entity",
        f"{POLICIES}::test_one_event_is_unparked_if_it_is_its_entitys_first",
        ("src/eventferry/parking.py", "if first.event_id != asked.event_id:", "if False:"),
    ),
    # ---- storms, and what the audit is told
    sabotage(
        "a storm parks everything",
        f"{POLICIES}::test_many_entities_that_fail_alike_pause_the_projection",
        (SETTLE, "    if entities < projection.storm:\n", "    if True:\n"),
    ),
    sabotage(
        "a storm counts what was before the resumption",
        f"{POLICIES}::test_many_entities_that_fail_alike_pause_the_projection",
        (f"{QUERIES}/count_failing.sql", "action IN ('resume', 'retry')", "false"),
    ),
    sabotage(
        "one entity that fails often is a storm",
        f"{POLICIES}::test_one_entity_that_fails_often_is_no_storm_and_nor_are_different_errors",
        (
            f"{QUERIES}/count_failing.sql",
            "count(DISTINCT (stream, coalesce(entity_id, event_id::text)))",
            "count(*)",
        ),
    ),
    sabotage(
        "skipped in silence",
        f"{POLICIES}::test_an_event_is_skipped_and_the_audit_says_so",
        (
            SETTLE,
            '        await conn.execute(*entry(ITSELF, service, projection.name, "skip"',
            '        (lambda *_, **__: None)(*entry(ITSELF, service, projection.name, "skip"',
        ),
    ),
    # ---- deaths
    sabotage(
        "deaths never counted",
        f"{DEATHS}::test_an_event_that_ends_its_processes_is_found_and_blamed",
        (RUN, "        deaths, self._deaths = self._deaths, 0\n", "        deaths = 0\n"),
    ),
    sabotage(
        "blamed for the first death",
        f"{DEATHS}::test_an_event_on_which_workers_happened_to_be_killed_is_not_blamed",
        (RUN, "        if deaths < DEATHS and not self._is_known_to_die:\n", "        if False:\n"),
    ),
    sabotage(
        "after a death, no batches of one",
        f"{DEATHS}::test_an_event_that_ends_its_processes_is_found_and_blamed",
        (RUN, "        if deaths or self.troubles.at == page.begin:\n", "        if False:\n"),
    ),
    sabotage(
        "a failed batch counted as a death",
        f"{DEATHS}::test_a_batch_that_failed_has_not_died",
        (
            SETTLE,
            'return recorded\n        await conn.execute(sql.query("excuse_batches"),',
            'return recorded\n        (lambda *_: None)(sql.query("excuse_batches"),',
        ),
    ),
    # ---- outages
    sabotage(
        "an outage counted as an attempt",
        f"{DEATHS}::test_an_outage_is_waited_out_and_no_attempt_is_counted",
        (
            ENGINE,
            "        return not (batch.is_aborted and any(is_outage(e) for e in _chain(error)))\n",
            "        return True\n",
        ),
    ),
    sabotage(
        "an outage that never ends",
        f"{DEATHS}::test_the_same_outage_at_the_same_event_while_the_store_answers_is_its_failure",
        (RUN, "            if count < TROUBLES or len(page.work) > 1:\n", "            if True:\n"),
    ),
    sabotage(
        "outages of all events added up",
        f"{DEATHS}::test_outages_at_different_events_are_nobodys_failure",
        (RUN, "self.count + 1 if at == self.at else 1", "self.count + 1"),
    ),
    sabotage(
        "an outage that a worker leaves behind taken for a death",
        f"{RACES}::test_outages_that_many_workers_see_are_no_deaths",
        (
            RUN,
            "                await self._excuse()\n            if count",
            "                pass\n            if count",
        ),
    ),
    sabotage(
        "a suspect that runs beside others",
        f"{RACES}::test_who_dies_with_its_neighbour_is_not_blamed_for_it",
        ("src/eventferry/worker.py", "            alone=slots.all,\n", ""),
    ),
    # ---- controls
    sabotage(
        "a failure settled wherever the projection is by now",
        f"{RACES}::test_what_failed_before_a_reset_is_not_settled_after_it",
        (
            RUN,
            "settle(self.pools, self.projection, failed, page.begin)",
            "settle(self.pools, self.projection, failed, await self._claim())",
        ),
    ),
    sabotage(
        "another failure forgotten",
        f"{RACES}::test_a_runner_forgets_no_failure_but_the_one_that_it_has_dealt_with",
        (
            f"{QUERIES}/forget_failure.sql",
            "failing_event_id IS NOT DISTINCT FROM %s",
            "coalesce(%s::uuid IS NULL, true) IS NOT NULL",
        ),
    ),
    sabotage(
        "a batch begun in spite of a pause",
        f"{TESTS}/test_controls.py::test_a_page_that_was_read_before_is_not_handled_after_it",
        (
            f"{QUERIES}/lock_checkpoints.sql",
            "coalesce(bool_or(locked.held OR locked.stops <> wanted.stops), false) AS halted",
            "false AS halted",
        ),
    ),
    sabotage(
        "a deleted projection brought back by starting it",
        f"{CONTROLS}::test_what_is_deleted_is_brought_back_by_nothing_but_a_reset",
        (RUN, '        if known.state == "deleted":\n', "        if False:\n"),
    ),
    sabotage(
        "a reset apart from its handler's",
        f"{CONTROLS}::test_a_reset_that_raises_changes_nothing",
        (
            ENGINE,
            "                    await self.reset(context)\n",
            "                    with suppress(Exception): await self.reset(context)\n",
        ),
        (
            ENGINE,
            "from contextlib import asynccontextmanager, contextmanager\n",
            "from contextlib import asynccontextmanager, contextmanager, suppress\n",
        ),
    ),
    sabotage(
        "a stop that nobody sees",
        f"{CONTROLS}::test_a_start_that_is_idle_ends_when_it_is_stopped_and_may_be_started_again",
        (f"{QUERIES}/ask_to_stop.sql", "stops = stops + 1", "stops = stops"),
    ),
    sabotage(
        "a skip of another event",
        f"{TESTS}/test_controls.py::test_no_other_event_than_the_failing_one_is_skipped",
        (CONTROL, "known.failing_event_id != event_id", "False"),
    ),
    sabotage(
        "a removed stream begun again",
        f"{TESTS}/test_controls.py::test_who_runs_with_a_removed_stream_does_not_begin_it_again",
        ("src/eventferry/claim.py", "            await self._require_its_streams()\n", ""),
    ),
    sabotage(
        "a dump that blames an event for deaths",
        "tests/acceptance/test_replication.py::test_a_dump_of_a_running_store_goes_on_in_a_fresh_cluster",
        (
            f"{RECOVERY}/02_batches.sql",
            "RETURN CASE WHEN count / 1000 - count % 1000 = begun THEN count % 1000 ELSE 0 END;",
            "RETURN count % 1000 + greatest(0, count / 1000 - count % 1000 - begun);",
        ),
    ),
)
