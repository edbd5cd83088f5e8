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
DEATHS = f"{TESTS}/test_outage_and_death.py"

SABOTAGES = (
    # ---- attempts
    sabotage(
        "the batch pass counted as an attempt",
        f"{POLICIES}::test_an_event_is_tried_as_often_as_the_policy_says",
        (RUN, "                if not outcome.alone:\n", "                if False:\n"),
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
        (f"{QUERIES}/wait_for_checkpoints.sql", " FOR UPDATE\n", "\n"),
    ),
    sabotage(
        "unparked past the first of its entity",
        f"{POLICIES}::test_one_event_is_unparked_if_it_is_its_entitys_first",
        ("src/eventferry/parking.py", "if first.event_id != event:", "if False:"),
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
        (f"{QUERIES}/count_failing.sql", "'resume')", "'never')"),
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
        (RUN, "DEATHS = 3\n", "DEATHS = 1\n"),
    ),
    sabotage(
        "after a death, no batches of one",
        f"{DEATHS}::test_an_event_that_ends_its_processes_is_found_and_blamed",
        (RUN, "        if deaths or self.troubles.at == page.begin:\n", "        if False:\n"),
    ),
    sabotage(
        "batches counted by drawing",
        f"{DEATHS}::test_a_crash_of_the_server_is_no_death_of_a_process",
        (
            f"{RECOVERY}/02_batches.sql",
            "RETURN setval(to_regclass(eventferry.batch_counter(projection)),",
            "RETURN nextval(to_regclass(eventferry.batch_counter(projection)));",
        ),
        (
            f"{RECOVERY}/02_batches.sql",
            "              eventferry.batches_begun(projection) + 1);",
            "",
        ),
    ),
    sabotage(
        "a failed batch counted as a death",
        f"{DEATHS}::test_a_batch_that_failed_has_not_died",
        (
            SETTLE,
            '        await conn.execute(sql.query("excuse_batches"), (service, projection.name))\n',
            "",
        ),
    ),
    # ---- outages
    sabotage(
        "an outage counted as an attempt",
        f"{DEATHS}::test_an_outage_is_waited_out_and_no_attempt_is_counted",
        (
            ENGINE,
            "        return not (batch.is_aborted and is_outage(error))\n",
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
)
