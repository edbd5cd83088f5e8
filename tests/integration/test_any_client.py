"""Any client may append, in any way that SQL knows, and gets the same promises.

Each way appends the events 1, 2 and 3, in a transaction that the test ends.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, LiteralString, Protocol

import psycopg
import pytest
from psycopg import errors as pg

from eventferry import End, EventStore
from eventferry.embedded import EmbeddedServer
from eventferry.migration import migrate
from tests.conftest import MakeService
from tests.environment import REPOSITORY, require
from tests.services import NEVER, SOON, Service, numbered, query, record
from tests.waiting import until, wait_for_lock

STREAM = "users-stream"
TABLE: LiteralString = 'streams."users-stream"'
OTHER: LiteralString = 'streams."orders-stream"'
INSERT: LiteralString = f"INSERT INTO {TABLE} (type, data)"
DATA: LiteralString = "'Numbered', json_build_object('n', n)"
SERIES: LiteralString = "generate_series(1, 3) AS n"
THREE: LiteralString = f"{INSERT} SELECT {DATA} FROM {SERIES}"
HOLD = 77
"""An advisory lock by which a test holds a transaction at a point inside of the server."""


def one(n: LiteralString) -> LiteralString:
    return f"{INSERT} VALUES ('Numbered', json_build_object('n', {n}));"


# What a team may have built around its streams.
SURROUNDINGS: LiteralString = f"""
CREATE FUNCTION add_sql(n integer) RETURNS void LANGUAGE sql AS $$ {one("n")} $$;
CREATE FUNCTION add_plpgsql(n integer) RETURNS void LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    BEGIN  -- what is caught here is rolled back to a savepoint
        {one("77")}
        RAISE 'caught';
    EXCEPTION WHEN raise_exception THEN
        {one("n")}
    END;
END $$;
CREATE PROCEDURE add_in_two_transactions() LANGUAGE plpgsql AS $$
BEGIN
    {one("1")}
    COMMIT;
    {one("2")}
    PERFORM pg_advisory_xact_lock({HOLD});
END $$;

CREATE VIEW numbers AS SELECT type, data FROM {TABLE};

CREATE TABLE carts (n integer);
CREATE RULE tell AS ON INSERT TO carts DO ALSO {one("NEW.n")}

CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN {one("NEW.n")} RETURN NULL; END $$;
CREATE TABLE orders (n integer);
CREATE TRIGGER tell AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION tell();
CREATE TABLE bills (n integer);
CREATE CONSTRAINT TRIGGER tell AFTER INSERT ON bills DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION tell();

CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_advisory_xact_lock({HOLD}); RETURN NULL; END $$;
CREATE TABLE held_bills (LIKE bills);
CREATE CONSTRAINT TRIGGER tell AFTER INSERT ON held_bills DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION tell();
CREATE CONSTRAINT TRIGGER then_hold AFTER INSERT ON held_bills DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION hold();

CREATE FUNCTION forward() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN {INSERT} VALUES (NEW.type, NEW.data); RETURN NULL; END $$;
CREATE TRIGGER forward AFTER INSERT ON {OTHER} FOR EACH ROW EXECUTE FUNCTION forward();

CREATE FUNCTION count_on() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    {INSERT} VALUES ('Counted', json_build_object('n', (NEW.data ->> 'n')::integer + 1));
    RETURN NULL;
END $$;
CREATE TRIGGER count_on AFTER INSERT ON {TABLE} FOR EACH ROW
    WHEN (NEW.type = 'Counted' AND (NEW.data ->> 'n')::integer < 3) EXECUTE FUNCTION count_on();
"""

STATEMENTS: dict[str, LiteralString] = {
    "INSERT": one("1") + one("2") + one("3"),
    "VALUES of several rows": f"""
        {INSERT} VALUES ('A', '{{"n": 1}}'), ('A', '{{"n": 2}}'), ('A', '{{"n": 3}}')""",
    "own id": f"""INSERT INTO {TABLE} (id, type, data)
        SELECT eventferry.uuid7(), {DATA} FROM {SERIES}""",
    "RETURNING": f"{THREE} RETURNING position",
    "WITH": f"WITH new AS ({THREE} RETURNING id) SELECT FROM new LIMIT 1",
    "INSERT SELECT": f"{THREE} ORDER BY n",
    "INSERT SELECT from itself": f"""
        {INSERT} SELECT type, json_build_object('n', n) FROM {TABLE}, {SERIES}
         WHERE position = (SELECT min(position) FROM {TABLE}) ORDER BY n""",
    "MERGE": f"""
        MERGE INTO {TABLE} USING (SELECT n FROM {SERIES}) AS new ON false
         WHEN MATCHED THEN DO NOTHING
         WHEN NOT MATCHED THEN INSERT (type, data) VALUES ({DATA})""",
    "ON CONFLICT": f"""
        WITH new AS MATERIALIZED (SELECT eventferry.uuid7() AS id, n FROM {SERIES})
        INSERT INTO {TABLE} (id, type, data)
        SELECT id, {DATA} FROM new, generate_series(1, 2) ORDER BY n ON CONFLICT DO NOTHING""",
    "PREPARE": f"""
        PREPARE add AS {INSERT} VALUES ('Numbered', json_build_object('n', $1::integer));
        EXECUTE add(1); EXECUTE add(2); EXECUTE add(3); DEALLOCATE add""",
    "EXPLAIN ANALYZE": f"EXPLAIN ANALYZE {THREE}",
    "DO": f"DO $$ BEGIN FOR n IN 1..3 LOOP {one('n')} END LOOP; END $$",
    "SQL function": f"SELECT add_sql(n) FROM {SERIES}",
    "plpgsql function": f"SELECT add_plpgsql(n) FROM {SERIES}",
    "view": f"INSERT INTO numbers (type, data) SELECT {DATA} FROM {SERIES}",
    "rule": "INSERT INTO carts VALUES (1), (2), (3)",
    "trigger": "INSERT INTO orders VALUES (1), (2), (3)",
    "deferred trigger": "INSERT INTO bills VALUES (1), (2), (3); SET CONSTRAINTS ALL IMMEDIATE",
    "trigger of another stream": f"""
        INSERT INTO {OTHER} (type, data) SELECT {DATA} FROM {SERIES}""",
    "trigger of the same stream": f"{INSERT} VALUES ('Counted', '{{\"n\": 1}}')",
    "savepoints": f"""
        SAVEPOINT a; {one("77")} ROLLBACK TO a; {one("1")}
        SAVEPOINT b; {one("2")} RELEASE a; SAVEPOINT c; {one("77")} ROLLBACK TO c; {one("3")}""",
    "REPEATABLE READ": f"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; {THREE}",
    "SERIALIZABLE": f"SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; {THREE}",
    "synchronous_commit = off": f"SET LOCAL synchronous_commit = off; {THREE}",
    "session_replication_role": f"SET LOCAL session_replication_role = replica; {THREE}",
    "positions drawn by hand": f"""
        SELECT nextval('eventferry.positions'); {THREE}; SELECT nextval('eventferry.positions')""",
    "locks and settings undone": f"""
        {one("1")} SELECT pg_advisory_unlock_all();
        SELECT pg_advisory_unlock_shared(classid::integer, objid::integer) FROM pg_locks
         WHERE locktype = 'advisory' AND pid = pg_backend_pid();
        {one("2")} RESET ALL; DISCARD PLANS; {one("3")}""",
}


def executemany(conn: psycopg.Connection[Any]) -> None:
    with conn.cursor() as cursor:
        statement: LiteralString = f"{INSERT} VALUES ('Numbered', %s::json)"
        cursor.executemany(statement, [(f'{{"n": {n}}}',) for n in (1, 2, 3)])


def pipeline(conn: psycopg.Connection[Any]) -> None:
    with conn.pipeline():
        for n in (1, 2, 3):
            conn.execute(f"{INSERT} VALUES ('Numbered', json_build_object('n', %s::int))", (n,))


def copy_text(conn: psycopg.Connection[Any]) -> None:
    with conn.cursor() as cursor, cursor.copy(f"COPY {TABLE} (type, data) FROM STDIN") as copy:
        for n in (1, 2, 3):
            copy.write_row(("Numbered", f'{{"n": {n}}}'))


def copy_csv(conn: psycopg.Connection[Any]) -> None:
    statement: LiteralString = f"COPY {TABLE} (data, type) FROM STDIN (FORMAT csv, HEADER)"
    with conn.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write('data,type\n"{""n"": 1}",A\n"{""n"": 2}",A\n"{""n"": 3}",A\n')


def copy_binary(conn: psycopg.Connection[Any]) -> None:
    statement: LiteralString = f"COPY {TABLE} (type, data) FROM STDIN (FORMAT binary)"
    with conn.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(["text", "text"])
        for n in (1, 2, 3):
            copy.write_row(("Numbered", f'{{"n": {n}}}'))


CALLS = (executemany, pipeline, copy_text, copy_csv, copy_binary)

PSQL: dict[str, LiteralString] = {
    "psql": f"{THREE};\n",
    "psql copy": (
        f"\\copy {TABLE} (type, data) FROM STDIN\n"
        'A\t{"n": 1}\nA\t{"n": 2}\nA\t{"n": 3}\n\\.\n'
    ),
    "psql copy csv": (
        f"\\copy {TABLE} (type, data) FROM STDIN (FORMAT csv)\n"
        'A,"{""n"": 1}"\nA,"{""n"": 2}"\nA,"{""n"": 3}"\n\\.\n'
    ),
    "psql copy binary": (
        f"\\copy (SELECT {DATA} FROM {SERIES}) TO '{{file}}' (FORMAT binary)\n"
        f"\\copy {TABLE} (type, data) FROM '{{file}}' (FORMAT binary)\n"
    ),
}


class Client(Protocol):
    """Somebody who appends, and ends the transaction when the test says so."""

    def append(self) -> None: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...


class Driver:
    """A program that uses psycopg."""

    def __init__(self, conn: psycopg.Connection[Any], way: Callable[[Any], None]) -> None:
        self.conn = conn
        self.way = way

    def append(self) -> None:
        self.way(self.conn)

    def commit(self) -> None:
        self.conn.commit()

    def rollback(self) -> None:
        self.conn.rollback()


class TwoPhase(Driver):
    """A resource of a transaction manager: what it has appended is prepared."""

    def append(self) -> None:
        # these names belong to the whole server
        self.conn.tpc_begin(f"{self.conn.info.dbname} {self.conn.info.backend_pid}")
        self.conn.execute(QUIETLY)
        super().append()
        self.conn.tpc_prepare()

    def commit(self) -> None:
        self.conn.tpc_commit()

    def rollback(self) -> None:
        self.conn.tpc_rollback()


class Psql:
    """A psql that somebody types into."""

    def __init__(self, process: subprocess.Popen[str], script: str) -> None:
        self.process = process
        self.script = script

    def append(self) -> None:
        self._type(f"BEGIN;\n{self.script}")

    def commit(self) -> None:
        self._type("COMMIT;\n")

    def rollback(self) -> None:
        self._type("ROLLBACK;\n")

    def _type(self, text: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{text}\\echo done\n")
        self.process.stdin.flush()
        said: list[str] = []
        while not said or said[-1] != "done\n":
            said.append(self.process.stdout.readline())
            assert said[-1], f"psql has ended: {''.join(said)}"


TWO_PHASE = "prepared transaction"
QUIETLY: LiteralString = "SET LOCAL eventferry.notify = off"
WAYS = [*STATEMENTS, *(call.__name__ for call in CALLS), *PSQL]


@contextmanager
def open_client(way: str, url: str, programs: Path, folder: Path) -> Iterator[Client]:
    """Somebody who appends in the named way."""
    if way in PSQL:
        with psql(url, programs) as process:
            yield Psql(process, PSQL[way].replace("{file}", str(folder / "events")))
        return
    calls: dict[str, Callable[[Any], None]] = {call.__name__: call for call in CALLS}
    statement = STATEMENTS.get(way, THREE)
    with psycopg.connect(url) as conn:
        kind = TwoPhase if way == TWO_PHASE else Driver
        yield kind(conn, calls.get(way, lambda conn: conn.execute(statement)))


def psql(url: str, programs: Path) -> subprocess.Popen[str]:
    program = programs / "psql"
    require(program.exists(), "psql")
    return subprocess.Popen(
        [program, "-XqAt", "-v", "ON_ERROR_STOP=1", url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def furnished(users: Service) -> Service:
    users.create_stream(STREAM, "orders-stream")
    users.create_effects()
    users.execute(SURROUNDINGS)
    users.consuming("reader", record, STREAM)
    return users


@pytest.fixture
def users(loner: Service) -> Service:
    return furnished(loner)


@pytest.fixture
def client(
    request: pytest.FixtureRequest, users: Service, server: EmbeddedServer, tmp_path: Path
) -> Iterator[Client]:
    with open_client(request.param, users.local_url, server.programs, tmp_path) as client:
        yield client


def in_flight(users: Service) -> int:
    return users.local.horizon(STREAM).in_flight


# The promises, for each way


@pytest.mark.parametrize("client", [*WAYS, TWO_PHASE], indirect=True)
def test_an_open_append_is_waited_for_and_then_handled_once_in_order(
    users: Service, client: Client
) -> None:
    users.append(STREAM, numbered(1, first=0))
    with users.running("reader") as look:
        client.append()
        users.append(STREAM, numbered(1, first=4))  # commits before, stands after
        assert look().end is End.IN_FLIGHT
        assert users.recorded() == [0]
        client.commit()
        assert look().end is End.CAUGHT_UP
        assert look().handled == 0
    assert users.recorded() == [0, 1, 2, 3, 4]
    events = list(users.local.read(STREAM))
    assert {(event.id.version, event.source) for event in events} == {(7, "users")}
    assert all(event.occurred_at.tzinfo and event.recorded_at.tzinfo for event in events)


@pytest.mark.parametrize("client", [*WAYS, TWO_PHASE], indirect=True)
def test_an_append_that_is_rolled_back_leaves_nothing_and_holds_nobody(
    users: Service, client: Client
) -> None:
    users.append(STREAM, numbered(1, first=0))
    client.append()
    users.append(STREAM, numbered(1, first=4))
    assert in_flight(users) > 0
    client.rollback()
    assert in_flight(users) == 0
    assert users.look("reader").end is End.CAUGHT_UP
    assert users.recorded() == [0, 4]


@pytest.mark.parametrize("client", WAYS, indirect=True)
def test_a_sleeping_worker_is_woken(users: Service, client: Client) -> None:
    users.poll_interval = NEVER
    with users.worker() as worker:
        worker.until_asleep()
        users.append(STREAM, numbered(1, first=0))
        worker.until_handled("reader", 1)  # so all looks are over that something else has asked for
        worker.until_asleep()
        client.append()
        client.commit()
        until(lambda: users.recorded() == [0, 1, 2, 3])


def test_all_ways_at_once_lose_and_double_nothing(
    make_service: MakeService, server: EmbeddedServer, tmp_path: Path
) -> None:
    users = furnished(make_service("users"))
    users.poll_interval = NEVER
    users.producing("ferry", STREAM)
    users.append(STREAM, numbered(1, first=0))

    def write(way: str) -> int:
        """Two transactions that commit, around one that is rolled back."""
        with open_client(way, users.local_url, server.programs, tmp_path) as client:
            for end in (client.commit, client.rollback, client.commit):
                client.append()
                end()
        return 6

    with users.worker() as worker, ThreadPoolExecutor(8) as pool:
        worker.until_asleep()
        written = sum(pool.map(write, WAYS))
        until(lambda: len(users.recorded()) >= 1 + written, "all is handled")
        until(lambda: len(users.positions(STREAM, environment="shared")) >= 1 + written)
    ids = [event.id for event in users.local.read(STREAM)]
    assert len(ids) == 1 + written
    handled = query(users.local_url, "SELECT event_id FROM effects ORDER BY place")
    assert [row[0] for row in handled] == ids
    assert [event.id for event in users.shared.read(STREAM)] == ids


def test_a_select_from_the_stream_does_not_chase_its_own_rows(users: Service) -> None:
    users.append(STREAM, numbered(2))
    for _ in range(3):
        users.execute(
            f"{INSERT} SELECT type, json_build_object('n', (data ->> 'n')::integer * 10)"
            f"  FROM {TABLE} ORDER BY position DESC"
        )
    assert users.run("reader").handled == 16
    twice = [1, 2, 20, 10]
    four = [*twice, *(n * 10 for n in reversed(twice))]
    assert users.recorded() == [*four, *(n * 10 for n in reversed(four))]


# Moments inside of the server


@contextmanager
def held(users: Service, *statements: LiteralString) -> Iterator[None]:
    """The last one waits for a lock, and is over when the block has ended."""

    def execute() -> None:
        with psycopg.connect(users.local_url, autocommit=True) as conn:
            for statement in statements:
                conn.execute(statement)

    with psycopg.connect(users.local_url) as holder, ThreadPoolExecutor(1) as pool:
        holder.execute("SELECT pg_advisory_xact_lock(%s)", (HOLD,))
        done = pool.submit(execute)
        try:
            wait_for_lock(users.local_url)
            yield
        finally:
            holder.rollback()
        done.result()


def test_what_a_deferred_trigger_appends_is_in_flight_while_the_commit_runs(
    users: Service,
) -> None:
    with held(users, "BEGIN", "INSERT INTO held_bills VALUES (1)", "COMMIT"):
        users.append(STREAM, numbered(1, first=2))
        assert users.look("reader").end is End.IN_FLIGHT
        assert users.recorded() == []
    assert users.look("reader").end is End.CAUGHT_UP
    assert users.recorded() == [1, 2]


def test_a_procedure_that_commits_marks_its_next_transaction_too(users: Service) -> None:
    with held(users, "CALL add_in_two_transactions()"):
        users.append(STREAM, numbered(1, first=3))
        assert users.look("reader").end is End.IN_FLIGHT
        assert users.recorded() == [1]
    assert users.look("reader").end is End.CAUGHT_UP
    assert users.recorded() == [1, 2, 3]


def test_a_stream_is_filled_by_a_frozen_copy_in_the_transaction_that_creates_it(
    users: Service,
) -> None:
    users.consuming("new", record, "new-stream")
    with psycopg.connect(users.local_url) as conn:
        conn.execute("SELECT eventferry.create_stream('new-stream')")
        copy_events: LiteralString = 'COPY streams."new-stream" (type) FROM STDIN (FREEZE)'
        with conn.cursor() as cursor, cursor.copy(copy_events) as copy:
            copy.write("A\nB\n")
        assert users.look("new").end is End.WAITING
    assert users.look("new").handled == 2


# Two-phase commit


def prepare(conn: psycopg.Connection[Any], quietly: LiteralString = QUIETLY) -> None:
    conn.execute(quietly)
    conn.execute(THREE)
    conn.execute(f"PREPARE TRANSACTION '{conn.info.dbname}'")  # type: ignore[arg-type,unused-ignore]


def commit_prepared(users: Service) -> None:
    with psycopg.connect(users.local_url, autocommit=True) as conn:
        conn.execute(f"COMMIT PREPARED '{conn.info.dbname}'")  # type: ignore[arg-type,unused-ignore]


def test_a_prepared_append_outlives_a_crash_and_is_waited_for(own_server: EmbeddedServer) -> None:
    url = own_server.create_database("users")
    migrate(url, kind="local", service="users")
    with closing(furnished(Service("users", url, url))) as users:
        with psycopg.connect(url) as conn:
            prepare(conn)
        users.append(STREAM, numbered(1, first=4))
        users.close()
        own_server.stop(crash=True)
        own_server.start()
        users.append(STREAM, numbered(1, first=5))
        assert users.look("reader").end is End.IN_FLIGHT
        assert users.recorded() == []
        commit_prepared(users)
        assert users.look("reader").end is End.CAUGHT_UP
        assert users.recorded() == [1, 2, 3, 4, 5]


def test_to_prepare_is_refused_where_the_append_has_notified_and_leaves_nothing(
    users: Service,
) -> None:
    users.poll_interval = NEVER
    with users.worker() as worker, psycopg.connect(users.local_url) as conn:
        worker.until_asleep()
        with pytest.raises(pg.FeatureNotSupported, match="executed LISTEN, UNLISTEN, or NOTIFY"):
            prepare(conn, quietly="SELECT")
        conn.rollback()
        users.append(STREAM, numbered(1, first=4))
        until(lambda: users.recorded() == [4])


def test_the_poll_of_a_worker_that_listens_finds_what_is_prepared(users: Service) -> None:
    users.poll_interval = SOON
    with users.worker() as worker, psycopg.connect(users.local_url) as conn:
        worker.until_asleep()
        prepare(conn)
        users.append(STREAM, numbered(1, first=4))
        until(lambda: (last := worker.last("reader")) and last.end is End.IN_FLIGHT)
        commit_prepared(users)
        until(lambda: users.recorded() == [1, 2, 3, 4])


def test_nobody_is_notified_where_that_was_said_for_the_whole_database(users: Service) -> None:
    users.listens = False
    users.poll_interval = NEVER
    with (
        psycopg.connect(users.local_url, autocommit=True) as held,
        psycopg.connect(users.local_url, autocommit=True) as ear,
    ):
        held.execute("SELECT pg_advisory_lock_shared(eventferry.sleeper_key(1::smallint), 0)")
        ear.execute("LISTEN eventferry")
        users.append(STREAM, numbered(1))
        assert len(list(ear.notifies(timeout=5, stop_after=1))) == 1
        quiet = f"ALTER DATABASE {ear.info.dbname} SET eventferry.notify = off"
        ear.execute(quiet)  # type: ignore[arg-type,unused-ignore]
        users.execute(f"INSERT INTO {TABLE} (type) VALUES ('Quiet')")
        users.execute("SELECT pg_notify('eventferry', 'last')")
        assert [n.payload for n in ear.notifies(timeout=5, stop_after=1)] == ["last"]


# What is refused, and what only an owner can break


REFUSED: dict[str, tuple[LiteralString, type[psycopg.Error], str]] = {
    "a null id, which is not no id": (
        f"INSERT INTO {TABLE} (id, type) VALUES (NULL, 'A')",
        pg.NotNullViolation,
        'null value in column "id"',
    ),
    "rows as they are, of another stream": (
        f"INSERT INTO {OTHER} SELECT * FROM {TABLE}",
        pg.CheckViolation,
        'constraint "2.stream"',
    ),
    "an upsert, even without a conflict": (
        f"{INSERT} VALUES ('A', '{{}}') ON CONFLICT (id) DO UPDATE SET type = 'B'",
        pg.ObjectNotInPrerequisiteState,
        "append-only",
    ),
    "a MERGE that could update, even if it would not": (
        f"MERGE INTO {TABLE} USING (SELECT 1) AS new ON false WHEN MATCHED THEN DELETE",
        pg.ObjectNotInPrerequisiteState,
        "append-only",
    ),
    "a view of all streams": (
        "INSERT INTO everything (stream, type) VALUES (1, 'A')",
        pg.ObjectNotInPrerequisiteState,
        "into the table of the stream",
    ),
    "a change through a view": (
        "UPDATE numbers SET type = 'B'",
        pg.ObjectNotInPrerequisiteState,
        "append-only",
    ),
    "a table that inherits, whose own triggers it would lack": (
        f"CREATE TABLE heirs () INHERITS ({TABLE})",
        pg.WrongObjectType,
        "cannot inherit",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_made_safe_is_refused(users: Service, what: str) -> None:
    users.append(STREAM, numbered(1))
    users.execute("CREATE VIEW everything AS SELECT stream, type FROM eventferry.events")
    statement, error, message = REFUSED[what]
    with pytest.raises(error, match=message):
        users.execute(statement)
    users.run("reader")
    assert users.recorded() == [1]


def test_a_position_of_ones_own_is_passed_over_which_is_why_roles_may_not_name_it(
    users: Service,
) -> None:
    """Here a superuser does what a mapper with a sequence of its own would do."""
    ((drawn,),) = query(users.local_url, "SELECT nextval('eventferry.positions')")
    users.append(STREAM, numbered(1))
    users.run("reader")
    late: LiteralString = f"INSERT INTO {TABLE} (position, type) VALUES (%s, 'Late')"
    users.execute(late, (drawn,))
    assert users.run("reader").handled == 0
    assert [event.type for event in users.local.read(STREAM)] == ["Late", "Numbered"]


@pytest.mark.parametrize("data", ["[" * 3_000 + "]" * 3_000, "9" * 5_000], ids=["deep", "long"])
def test_data_that_python_cannot_read_fails_visibly_and_is_not_skipped(
    users: Service, data: str
) -> None:
    users.append(STREAM, numbered(1))
    users.execute(f"{INSERT} VALUES ('Odd', %s::json)", (f'{{"n": {data}}}',))
    users.append(STREAM, numbered(1, first=2))
    assert users.look("reader").end is End.FAILED
    assert users.recorded() == [1]
    assert users.failure("reader").failing_event_type == "Odd"


# The how-to


def test_the_how_to_works_as_it_stands(own_server: EmbeddedServer) -> None:
    url = own_server.create_database("users")
    migrate(url, kind="local", service="users")
    text = (REPOSITORY / "docs/howto/append-from-any-client.md").read_text()
    script = "\n".join(re.findall(r"^ *```sql\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE))
    with EventStore(url) as store:
        store.create_stream(STREAM)
        with psql(url, own_server.programs) as process:
            said, _ = process.communicate(script)
        assert process.returncode == 0, said
        assert [event.data for event in store.read(STREAM)] == [
            {"email": f"{name}@example.org"} for name in ("ada", "grace", "alan", "mary")
        ]
    with psycopg.connect(url) as conn:
        conn.execute("SET ROLE web")
        conn.execute(f"{INSERT} VALUES ('UserRegistered', '{{}}')")
        with pytest.raises(pg.InsufficientPrivilege):
            conn.execute(f"INSERT INTO {TABLE} (type, position) VALUES ('UserRegistered', 1)")
