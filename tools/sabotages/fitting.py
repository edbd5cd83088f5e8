"""Where it fits in: sessions, Django's transactions, requests, waits."""

from __future__ import annotations

from tools.sabotages import ENGINE, QUERIES, TESTS, sabotage

SESSIONS = f"{TESTS}/test_sqlalchemy_handlers.py"
HANDLERS = f"{TESTS}/test_django_handlers.py"
DJANGO = "src/eventferry/django/transactions.py"

SABOTAGES = (
    sabotage(
        "a session that is not written before the checkpoint moves",
        f"{SESSIONS}::test_what_is_added_commits_with_the_checkpoint",
        (ENGINE, "            await loan.flush()\n", "            pass\n"),
    ),
    sabotage(
        "a session's rollback that is forgotten",
        f"{SESSIONS}::test_who_rolls_the_session_back_loses_the_event_and_no_other",
        (ENGINE, "        if loan.is_rolled_back:\n", "        if False:\n"),
    ),
    sabotage(
        "a checkpoint that moves where Django rolls back",
        f"{HANDLERS}::test_a_transaction_that_django_would_roll_back_fails_the_event",
        (DJANGO, "                        _require_commit(wrapper)\n", ""),
    ),
    sabotage(
        "a function on commit that fails what is committed",
        f"{HANDLERS}::test_what_waits_for_the_commit_runs_after_it_and_fails_nothing",
        (
            DJANGO,
            "        except BaseException:\n            log",
            "        except KeyError:\n            log",
        ),
    ),
    sabotage(
        "a request that is answered before it is committed",
        f"{TESTS}/test_fastapi.py::test_what_a_request_has_done_is_committed_before_its_answer_begins",
        (
            "src/eventferry/fastapi.py",
            'Depends(_begin_async, scope="function")',
            "Depends(_begin_async)",
        ),
    ),
    sabotage(
        "an append through text() in any order",
        f"{TESTS}/test_store_append.py::test_many_events_keep_their_order",
        (f"{QUERIES}/append_json.sql", " ORDER BY place\n", " ORDER BY place DESC\n"),
    ),
    sabotage(
        "an append of many in two halves",
        f"{TESTS}/test_store_append.py::test_nothing_is_kept_of_many_whose_second_half_is_refused",
        (
            "src/eventferry/store/_native/_async.py",
            "                await self._copy(stream, await self._filled(rows))\n",
            (
                "                await self._copy(stream, await self._filled(rows[:100]))\n"
                "                if rows[100:]:\n"
                "                    await self._copy(stream, await self._filled(rows[100:]))\n"
            ),
        ),
    ),
    sabotage(
        "a race for a version that the driver tells of",
        f"{TESTS}/test_store_append.py::test_of_two_that_have_passed_the_same_check_one_succeeds",
        (
            "src/eventferry/store/_native/_async.py",
            "if not alone or not _is_of_streams(error):",
            "if alone or not _is_of_streams(error):",
        ),
    ),
    sabotage(
        "a store's kind that is not looked at",
        f"{TESTS}/test_store_append.py::test_versions_are_not_given_out_by_a_shared_store",
        (f"{QUERIES}/append_next.sql", "kind = 'local'", "kind IS NOT NULL"),
    ),
)
