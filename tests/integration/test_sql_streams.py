"""What the tables promise to every client, whatever it is written in: in plain SQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import errors as pg

from eventferry import EventStore
from tests.conftest import MakeDatabase

TABLE: LiteralString = 'streams."users-stream"'
INSERT: LiteralString = f"INSERT INTO {TABLE} (type, data) VALUES ('A', '{{}}')"
MARKERS = """
    SELECT classid::bigint & 65535, objid::bigint FROM pg_locks
     WHERE locktype = 'advisory' AND mode = 'ShareLock' AND classid::bigint >> 16 = 17734
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
     ORDER BY 1, 2"""


@pytest.fixture
def url(make_database: MakeDatabase) -> str:
    url = make_database("local", "users")
    with EventStore(url) as store:
        store.create_stream("users-stream")
        store.create_stream("others")
    return url


@pytest.fixture
def conn(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url) as conn:
        yield conn
        conn.rollback()


def rows(conn: psycopg.Connection[Any], statement: LiteralString) -> list[Any]:
    return conn.execute(statement).fetchall()


def markers(url: str) -> list[tuple[int, int]]:
    with psycopg.connect(url) as conn:
        return rows(conn, MARKERS)


def refused(
    conn: psycopg.Connection[Any], error: type[pg.Error], match: str, statement: LiteralString
) -> None:
    with pytest.raises(error, match=match), conn.transaction():
        conn.execute(statement)


# What a plain INSERT gets


def test_a_plain_insert_gets_id_source_and_times(conn: psycopg.Connection[Any]) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    conn.execute(INSERT)
    ((id_, source, occurred_at, recorded_at, version),) = rows(
        conn, f"SELECT id, source, occurred_at, recorded_at, version FROM {TABLE}"
    )
    assert (id_.version, id_.variant) == (7, "specified in RFC 4122")
    made = datetime.fromtimestamp(int(id_.hex[:12], 16) / 1000, UTC)
    assert before < made < datetime.now(UTC) + timedelta(seconds=1)
    assert (source, version) == ("users", None)
    assert before < occurred_at == recorded_at


def test_a_shared_store_names_the_role_as_the_source(make_database: MakeDatabase) -> None:
    with EventStore(make_database("shared")) as store:
        store.create_stream("users-stream")
        with psycopg.connect(str(store._url)) as conn:
            conn.execute(INSERT)
        assert [event.source for event in store.read("users-stream")] == ["postgres"]


REFUSED: list[tuple[str, LiteralString, LiteralString]] = [
    ("events_type", "type", "''"),
    ("events_type", "type", "repeat('x', 256)"),
    ("events_source", "type, source", "'A', ''"),
    ("events_entity_id", "type, entity_id", "'A', ''"),
    ("events_entity_id", "type, entity_id", "'A', repeat('x', 256)"),
    ("events_version", "type, version", "'A', 1"),
    ("events_version", "type, entity_id, version", "'A', '1', 0"),
    ("events_data_object", "type, data", "'A', '[]'"),
    ("events_metadata_object", "type, metadata", "'A', 'null'"),
    ("events_data_size", "type, data", "'A', json_build_object('a', repeat('x', 16777216))"),
    ("events_metadata_size", "type, metadata", "'A', json_build_object('a', repeat('x', 1048576))"),
    ("events_occurred_at", "type, occurred_at", "'A', 'infinity'"),
    ("events_occurred_at", "type, occurred_at", "'A', '0044-03-15 BC'"),
    ("events_recorded_at", "type, recorded_at", "'A', '-infinity'"),
    ("1.stream", "type, stream", "'A', 2"),
]


def test_what_a_plain_insert_could_get_wrong_is_refused(conn: psycopg.Connection[Any]) -> None:
    for constraint, columns, values in REFUSED:
        statement: LiteralString = f"INSERT INTO {TABLE} ({columns}) VALUES ({values})"
        refused(conn, pg.CheckViolation, f'constraint "{constraint}"', statement)


def test_ids_and_versions_are_unique_in_a_stream(conn: psycopg.Connection[Any]) -> None:
    insert: LiteralString = (
        f"INSERT INTO {TABLE} (id, type, entity_id, version) "
        "VALUES ('01890000-0000-7000-8000-00000000000%s', 'A', '42', %s)"
    )
    conn.execute(insert % (1, 1))  # type: ignore[arg-type,unused-ignore]
    refused(conn, pg.UniqueViolation, '"1.id"', insert % (1, 2))  # type: ignore[arg-type,unused-ignore]
    refused(conn, pg.UniqueViolation, '"1.version"', insert % (2, 1))  # type: ignore[arg-type,unused-ignore]


# What nobody may do


# What nobody may do


CHANGES: list[LiteralString] = [
    "UPDATE {} SET type = 'B'",
    "DELETE FROM {}",
    "DELETE FROM {} WHERE false",
    "TRUNCATE {}",
    "MERGE INTO {} USING (SELECT 1) AS one ON true WHEN MATCHED THEN UPDATE SET type = 'B'",
    "MERGE INTO {} USING (SELECT 1) AS one ON true WHEN MATCHED THEN DELETE",
]


@pytest.mark.parametrize("role", ["origin", "replica"])
def test_a_stream_is_append_only(conn: psycopg.Connection[Any], role: LiteralString) -> None:
    conn.execute(INSERT)
    conn.execute(f"SET session_replication_role = {role}")
    error = pg.ObjectNotInPrerequisiteState
    for statement in CHANGES:
        for table in (TABLE, "eventferry.events"):
            refused(conn, error, "refused: streams are append-only", statement.format(table))
    assert rows(conn, f"SELECT type FROM {TABLE}") == [("A",)]


def test_an_insert_that_updates_on_conflict_is_refused(conn: psycopg.Connection[Any]) -> None:
    update: LiteralString = f"{INSERT} ON CONFLICT (id) DO UPDATE SET type = 'B'"
    refused(conn, pg.ObjectNotInPrerequisiteState, "UPDATE of streams.*append-only", update)


@pytest.mark.parametrize("role", ["origin", "replica"])
def test_an_insert_into_the_parent_names_the_tables_of_the_streams(
    conn: psycopg.Connection[Any], role: LiteralString
) -> None:
    conn.execute(f"SET session_replication_role = {role}")
    match = r'into the table of the stream.* streams."users-stream", streams.others'
    error = pg.ObjectNotInPrerequisiteState
    refused(conn, error, match, "INSERT INTO eventferry.events (stream, type) VALUES (1, 'A')")
    refused(conn, error, match, "INSERT INTO eventferry.events (type) SELECT 'A' WHERE false")
    merge: LiteralString = (
        "MERGE INTO eventferry.events USING (SELECT 1) AS one ON false "
        "WHEN NOT MATCHED THEN INSERT (stream, type) VALUES (1, 'A')"
    )
    refused(conn, error, match, merge)
    with pytest.raises(error, match=match), conn.transaction(), conn.cursor() as cursor:  # noqa: SIM117
        with cursor.copy("COPY eventferry.events (stream, type) FROM STDIN") as copy:
            copy.write("1\tA\n")


# The marker


def test_the_marker_of_an_empty_sequence_is_zero(conn: psycopg.Connection[Any], url: str) -> None:
    conn.execute(INSERT)
    assert markers(url) == [(1, 0)]
    with EventStore(url) as store:
        seen = store.horizon("users-stream")
        assert (seen.head, seen.position, seen.in_flight) == (1, 0, 1)
        assert store.horizon("others").in_flight == 0
    conn.commit()
    assert markers(url) == []


@pytest.mark.parametrize("role", ["origin", "replica"])
def test_every_way_to_insert_is_marked(
    conn: psycopg.Connection[Any], url: str, role: LiteralString
) -> None:
    conn.execute(f"SET session_replication_role = {role}")
    conn.commit()
    ways: list[LiteralString] = [
        INSERT,
        f"INSERT INTO {TABLE} (type) SELECT 'A' FROM generate_series(1, 3)",
        f"INSERT INTO {TABLE} (type) SELECT 'A' WHERE false",
        f"{INSERT} ON CONFLICT DO NOTHING",
        f"WITH new AS ({INSERT} RETURNING position) SELECT position FROM new",
        f"""MERGE INTO {TABLE} USING (SELECT 1) AS one ON false
            WHEN NOT MATCHED THEN INSERT (type) VALUES ('A')""",
    ]
    for way in ways:
        conn.execute(way)
        assert [stream for stream, _ in markers(url)] == [1]
        conn.rollback()
        assert markers(url) == []
    with conn.cursor() as cursor, cursor.copy(f"COPY {TABLE} (type) FROM STDIN") as copy:
        copy.write("A\nB\n")
    assert [stream for stream, _ in markers(url)] == [1]


def test_ten_thousand_inserts_take_one_marker(conn: psycopg.Connection[Any], url: str) -> None:
    conn.execute(f"""
        DO $$ BEGIN
            FOR n IN 1..10000 LOOP INSERT INTO {TABLE} (type) VALUES ('A'); END LOOP;
        END $$""")
    assert markers(url) == [(1, 0)]
    conn.commit()
    assert rows(conn, f"SELECT count(*), max(position) FROM {TABLE}") == [(10_000, 10_000)]


def test_a_transaction_has_one_marker_in_each_of_its_streams(
    conn: psycopg.Connection[Any], url: str
) -> None:
    for _ in range(2):
        conn.execute(INSERT)
        conn.execute("INSERT INTO streams.others (type) VALUES ('A')")
    assert markers(url) == [(1, 0), (2, 1)]
    conn.commit()
    conn.execute(INSERT)
    assert markers(url) == [(1, 4)]


def test_the_marker_goes_and_comes_with_savepoints(conn: psycopg.Connection[Any], url: str) -> None:
    conn.execute("SAVEPOINT before")
    conn.execute(INSERT)
    assert markers(url) == [(1, 0)]
    conn.execute("ROLLBACK TO before")
    assert markers(url) == []
    conn.execute(INSERT)
    assert markers(url) == [(1, 1)]
    conn.execute("SAVEPOINT after")
    conn.execute(INSERT)
    conn.execute("ROLLBACK TO after")
    conn.execute(INSERT)
    assert markers(url) == [(1, 1)]
    conn.execute("RELEASE before")
    assert markers(url) == [(1, 1)]


def test_a_failed_statement_leaves_no_marker_behind(
    conn: psycopg.Connection[Any], url: str
) -> None:
    refused(conn, pg.CheckViolation, "events_type", f"INSERT INTO {TABLE} (type) VALUES ('')")
    assert markers(url) == []
    conn.execute(INSERT)
    assert markers(url) == [(1, 1)]


def test_forgetting_the_setting_marks_once_more(conn: psycopg.Connection[Any], url: str) -> None:
    conn.execute(INSERT)
    conn.execute("RESET ALL")
    conn.execute(INSERT)
    assert markers(url) == [(1, 0), (1, 1)]


def test_a_prepared_transaction_keeps_its_marker(conn: psycopg.Connection[Any], url: str) -> None:
    conn.execute(INSERT)
    name = f"held-{conn.info.dbname}"
    conn.execute(f"PREPARE TRANSACTION '{name}'")  # type: ignore[arg-type,unused-ignore]
    conn.rollback()
    assert markers(url) == [(1, 0)]
    with EventStore(url) as store, psycopg.connect(url, autocommit=True) as other:
        assert list(store.read("users-stream")) == []
        other.execute(f"COMMIT PREPARED '{name}'")  # type: ignore[arg-type,unused-ignore]
        assert [event.position for event in store.read("users-stream")] == [1]
    assert markers(url) == []


def test_an_append_commits_synchronously_whatever_the_session_says(
    conn: psycopg.Connection[Any],
) -> None:
    conn.execute("SET synchronous_commit = off")
    conn.commit()
    conn.execute(INSERT)
    assert rows(conn, "SHOW synchronous_commit") == [("on",)]
    conn.commit()
    assert rows(conn, "SHOW synchronous_commit") == [("off",)]
    conn.execute("SET LOCAL synchronous_commit = local")
    conn.execute(INSERT)
    assert rows(conn, "SHOW synchronous_commit") == [("local",)]


def test_a_strange_search_path_changes_nothing(conn: psycopg.Connection[Any], url: str) -> None:
    conn.execute("""
        CREATE SCHEMA strange;
        CREATE FUNCTION strange.refuse() RETURNS void LANGUAGE plpgsql AS
            $$ BEGIN RAISE 'not me'; END $$;
        CREATE FUNCTION strange.lie(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS
            $$ BEGIN RAISE 'not me'; END $$;
        CREATE FUNCTION strange.lie(text, text) RETURNS boolean LANGUAGE plpgsql AS
            $$ BEGIN RAISE 'not me'; END $$;
        CREATE FUNCTION strange.current_setting(text, boolean) RETURNS text LANGUAGE plpgsql AS
            $$ BEGIN RAISE 'not me'; END $$;
        CREATE FUNCTION strange.set_config(text, text, boolean) RETURNS text LANGUAGE plpgsql AS
            $$ BEGIN RAISE 'not me'; END $$;
        CREATE FUNCTION strange.pg_sequence_last_value(regclass) RETURNS bigint LANGUAGE plpgsql AS
            $$ BEGIN RAISE 'not me'; END $$;
        CREATE FUNCTION strange.quote_ident(name) RETURNS text LANGUAGE plpgsql AS
            $$ BEGIN RAISE 'not me'; END $$;
        CREATE FUNCTION strange.format(text, VARIADIC "any") RETURNS text LANGUAGE internal AS
            'text_format_nv';
        CREATE OPERATOR strange.= (LEFTARG = text, RIGHTARG = text, FUNCTION = strange.lie);
        CREATE OPERATOR strange.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = strange.lie);
        CREATE OPERATOR strange.<< (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = strange.lie);
        CREATE DOMAIN strange.uuid AS pg_catalog.int4;
    """)
    conn.execute("CREATE TEMPORARY TABLE text (a int)")
    conn.execute("CREATE TEMPORARY TABLE pg_locks (a int)")
    conn.execute("SET search_path = strange, pg_temp, pg_catalog")
    conn.execute(INSERT)
    conn.execute(INSERT)
    assert markers(url) == [(1, 0)]
    conn.execute("SELECT eventferry.create_stream('third')")
    refused(conn, pg.ObjectNotInPrerequisiteState, "append-only", f"DELETE FROM {TABLE}")
    refused(
        conn,
        pg.ObjectNotInPrerequisiteState,
        "into the table",
        "INSERT INTO eventferry.events (stream, type) VALUES (1, 'A')",
    )
    horizon = rows(
        conn, "SELECT head, horizon FROM eventferry.horizon('{users-stream}'::pg_catalog.text[])"
    )
    assert horizon == [(2, 0)]
    conn.commit()


def test_somebody_elses_lock_on_our_keys_refuses_the_append(
    conn: psycopg.Connection[Any], url: str
) -> None:
    with psycopg.connect(url) as other:
        other.execute("SELECT pg_advisory_xact_lock(eventferry.marker_key(1::smallint), 0)")
        refused(conn, pg.RaiseException, "could not mark an append to stream number 1", INSERT)
    conn.execute(INSERT)


def test_the_triggers_fire_always_and_positions_are_not_cached(
    conn: psycopg.Connection[Any],
) -> None:
    triggers = rows(
        conn,
        "SELECT tgrelid::regclass::text, tgname, tgenabled FROM pg_trigger "
        "WHERE NOT tgisinternal ORDER BY 1, 2",
    )
    assert triggers == [
        ("eventferry.events", "refuse_change", "A"),
        ("eventferry.events", "refuse_insert", "A"),
        ('streams."users-stream"', "mark", "A"),
        ('streams."users-stream"', "refuse_change", "A"),
        ("streams.others", "mark", "A"),
        ("streams.others", "refuse_change", "A"),
    ]
    assert rows(conn, "SELECT DISTINCT cache_size FROM pg_sequences") == [(1,)]


def test_a_role_needs_no_more_than_to_insert(conn: psycopg.Connection[Any], url: str) -> None:
    role = f"writer_{conn.info.dbname}"
    conn.execute(f"""
        CREATE ROLE {role};
        GRANT USAGE ON SCHEMA eventferry, streams TO {role};
        GRANT USAGE ON SEQUENCE eventferry.positions TO {role};
        GRANT INSERT (type, data) ON {TABLE} TO {role};
        SET LOCAL ROLE {role};""")  # type: ignore[arg-type,unused-ignore]
    conn.execute(INSERT)
    assert markers(url) == [(1, 0)]
    for statement in (
        f"INSERT INTO {TABLE} (type, position) VALUES ('A', 7)",
        f"INSERT INTO {TABLE} (type, version) VALUES ('A', 7)",
        f"DELETE FROM {TABLE}",
        f"SELECT 1 FROM {TABLE}",
    ):
        refused(conn, pg.InsufficientPrivilege, "permission denied", statement)
    conn.rollback()


def test_a_role_that_cannot_read_the_sequence_is_refused_instead_of_marking_wrongly(
    conn: psycopg.Connection[Any],
) -> None:
    role = f"blind_{conn.info.dbname}"
    conn.execute(f"""
        CREATE ROLE {role};
        GRANT USAGE ON SCHEMA eventferry, streams TO {role};
        GRANT UPDATE ON SEQUENCE eventferry.positions TO {role};
        GRANT INSERT (type, data) ON {TABLE} TO {role};
        SET LOCAL ROLE {role};""")  # type: ignore[arg-type,unused-ignore]
    refused(conn, pg.InsufficientPrivilege, "sequence .*positions", INSERT)
    conn.rollback()
