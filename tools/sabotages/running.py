"""When it runs: failures, and being woken."""

from __future__ import annotations

from tools.sabotages import (
    EVENT,
    FERRY,
    HORIZON,
    INTERLEAVING,
    MARK,
    RUN,
    STEP,
    TESTS,
    WATCH,
    WORKER,
    sabotage,
)

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

SABOTAGES = (
    # ---- failures
    sabotage(
        "good events before a failing one not kept",
        f"{TESTS}/test_engine_failure.py"
        "::test_the_good_events_before_a_failing_one_are_kept[3-False]",
        (
            RUN,
            "if self._is_late_for_once(outcome) or not outcome.alone:",
            "if self._is_late_for_once(outcome):",
        ),
    ),
    sabotage(
        "a mutated event used again",
        f"{TESTS}/test_engine_failure.py"
        "::test_an_event_that_a_handler_has_changed_is_fresh_when_it_is_tried_again",
        (
            EVENT,
            "class Events(",
            "remembered = lru_cache(None)(RecordedEvent)\n\n\nclass Events(",
        ),
        (EVENT, "return map(RecordedEvent, zip(", "return map(remembered, zip("),
    ),
    sabotage(
        "a failure recorded that another runner has got past",
        f"{TESTS}/test_engine.py::test_a_failure_that_another_runner_has_got_past_is_not_recorded",
        (
            RUN,
            "settle(self.pools, self.projection, failed, page.begin)",
            "settle(self.pools, self.projection, failed, await self._claim())",
        ),
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
        (WATCH, "            self.wake(self.readers)\n            self.on_waits()\n", ""),
    ),
)
