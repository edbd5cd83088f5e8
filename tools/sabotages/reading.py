"""What is read, and from where on: markers, horizon, checkpoint."""

from __future__ import annotations

from tools.sabotages import (
    CHECKPOINT,
    CREATE_STREAM,
    ENGINE,
    HORIZON,
    INTERLEAVING,
    MARK,
    QUERIES,
    SOURCE,
    TESTS,
    sabotage,
)

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
                "            size = await self._sizes.next(conn, self.streams"
            ),
            (
                "            await conn.set_isolation_level(None)\n"
                '            await conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")\n'
                "            seen = await look(conn, checkpoints, self.projection, self.store)\n"
                "            size = await self._sizes.next(conn, self.streams"
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
            "        return replace(page, work=copied, marks=marks[count - page.count :])",
            (
                "        done = list(marks[count - page.count :])\n"
                "        done = done and [*done[:-1], done[-1]._replace(position=seen.position)]\n"
                "        return replace(page, work=copied, marks=done)"
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
        (
            "src/eventferry/engine/locking/_async.py",
            "return Locked(*locked) if in_place else Moved()",
            "return Locked(*locked)",
        ),
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
    sabotage(
        "a late marker taken for lost history",
        f"{TESTS}/test_engine.py::test_a_marker_that_is_taken_late_is_no_lost_history",
        (SOURCE, "max(c.position, seen.position)", "seen.position"),
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
            f"{QUERIES}/lock_checkpoints.sql",
            "(wanted.incarnation, wanted.position, wanted.event_id)",
            "(locked.incarnation, wanted.position, wanted.event_id)",
        ),
    ),
)
