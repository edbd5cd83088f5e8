"""What notices that a store is not what it was, and the ways out."""

from __future__ import annotations

from tools.sabotages import CHECKPOINT, RECOVERY, sabotage

CLAIM = "src/eventferry/claim.py"
CONTROL = "src/eventferry/control.py"
POOLS = "src/eventferry/pools.py"
IDENTITY = "tests/acceptance/test_identity.py"

SABOTAGES = (
    sabotage(
        "history: another event at the checkpoint goes unnoticed",
        f"{IDENTITY}::test_a_ferry_goes_on_from_the_last_event_that_its_store_has_not_lost[10]",
        (
            CHECKPOINT,
            "if (mark.position, mark.event_id) != (checkpoint.position, checkpoint.event_id):",
            "if mark.position != checkpoint.position:",
        ),
    ),
    sabotage(
        "history: an end that is lost goes unnoticed",
        "tests/acceptance/test_replication.py"
        "::test_a_standby_that_lacked_commits_is_noticed_and_gone_on_with",
        (CHECKPOINT, "    if complete and expected:\n", "    if False:\n"),
    ),
    sabotage(
        "history: a mark is common wherever its event stands",
        f"{IDENTITY}::test_an_event_that_came_back_to_another_place_is_not_common",
        (CONTROL, " == (mark.event_id, mark.position):", ":"),
    ),
    sabotage(
        "history: the marks go with a reset",
        f"{IDENTITY}::test_the_marks_of_what_is_common_outlive_a_reset",
        (
            CONTROL,
            "*(self._forget_marks(c.stream, c.position) for c in after),",
            "self._forget_marks(),",
        ),
    ),
    sabotage(
        "history: what is parked is dropped where a projection goes on",
        f"{IDENTITY}::test_a_projection_that_goes_on_keeps_its_effects_and_what_is_parked",
        (CONTROL, "self._delete_parked(c.stream, c.position) for", "self._delete_parked() for"),
    ),
    sabotage(
        "history: a wrong shared store is ferried to",
        f"{IDENTITY}::test_a_ferry_with_a_wrong_shared_url_goes_on_when_that_is_right",
        (CLAIM, "    if kept_in not in (None, here):\n", "    if False:\n"),
    ),
    sabotage(
        "history: two services of one name ferry",
        f"{IDENTITY}::test_a_second_service_of_the_same_name_is_refused_until_it_has_its_own"
        "[another-ferry]",
        (CLAIM, "    if other is not None:\n", "    if False:\n"),
    ),
    sabotage(
        "history: run on a store of somebody else",
        f"{IDENTITY}::test_a_store_of_somebody_else_is_not_run_on",
        (
            POOLS,
            "                self._require_own(await cursor.fetchone(), environment, store)\n",
            "",
        ),
    ),
    sabotage(
        "history: old marks are never thinned",
        f"{IDENTITY}::test_a_mark_is_kept_each_minute_and_the_older_the_fewer",
        (f"{RECOVERY}/07_marks.sql", "interval '15 minutes'", "interval '15 years'"),
    ),
    sabotage(
        "history: new events are a replay where a projection goes on",
        f"{IDENTITY}::test_a_projection_that_goes_on_keeps_its_effects_and_what_is_parked",
        (
            CONTROL,
            "replay_until=before[c.stream].replay_until if c.stream in before else 0,",
            "replay_until=c.replay_until,",
        ),
    ),
)
