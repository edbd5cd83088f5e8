# Generated from src/eventferry/store/_async.py by tools/async_to_sync.py; do not edit.
"""The event store.

Owns the conversation with a store's stream tables: append, read, create. The guarantees are the
database's (see sql/migrations): this only asks well, and turns answers into objects and errors.
It never commits or rolls back a transaction of the caller's.

Of an append, either all is kept or nothing. What was there already, with the same content, is
not appended again; see `_insert`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

import psycopg
from psycopg import Connection
from psycopg.rows import class_row, tuple_row
from psycopg.types.string import TextBinaryLoader, TextLoader
from psycopg.types.uuid import UUIDBinaryLoader
from psycopg_pool import ConnectionPool, PoolTimeout

from eventferry import migration, sql
from eventferry.caller import driver_connection, give_up, has_ended
from eventferry.connection import (
    PREPARE_THRESHOLD,
    how_to_create,
    options,
    refuse_autocommit,
    require_url,
    shown,
    translated,
)
from eventferry.errors import StoreError, StoreUnavailable, UnknownStream, VersionConflict
from eventferry.event import Event, RecordedEvent, require_name
from eventferry.store import _row
from eventferry.store._horizon import Horizon, Stream
from eventferry.store._row import Row
from eventferry.stream import require_stream_name

if TYPE_CHECKING:
    from eventferry.caller import CallerConnection
    from eventferry.store._foreign import Foreign

PAGE_SIZE = 1000
"""Events that a read fetches at a time."""
ATTEMPTS = 5
"""How often an append looks again when what was in its way is gone each time."""


@dataclass(frozen=True, slots=True)
class Appended:
    """What an append did."""

    stream: str
    """The name of the stream that was appended to."""
    ids: tuple[UUID, ...]
    """The events' ids, in the order in which the events were given."""
    _store: EventStore = field(repr=False, compare=False)
    _connection: CallerConnection | None = field(repr=False, compare=False)

    def positions(self) -> tuple[int, ...]:
        """The events' positions, in the order of `ids`; looked up now, by id.

        Raises:
            StoreError: the transaction of the append has been rolled back.
        """
        caller = self._connection
        if caller is not None and has_ended(caller):
            caller = None
        with self._store._statements(caller) as statements:
            found = statements.positions(self.stream, self.ids)
        missing = [id_ for id_ in self.ids if id_ not in found]
        if missing:
            raise StoreError(
                f"stream {self.stream!r} has no event {missing[0]}: the transaction that appended "
                "it was rolled back, or is not committed and this is another connection"
            )
        return tuple(found[id_] for id_ in self.ids)


class EventStore:
    """Streams of events in a PostgreSQL database.

    Nothing is connected before it is needed. Close the store, or let `with` do it, to give
    its connections back; a pool that was passed in stays open.

    Beside what it names itself, every method raises `StoreUnavailable`, `StoreNotMigrated` or
    `SchemaTooNew` where the database is not there or not ready, and `StoreError` where the store
    has neither a target nor been given a `connection`.

    Args:
        target: The database's URL, or a psycopg pool of connections to it. None: every call
            passes the `connection` of its caller; `read` and `horizon`, which need connections
            of the store's own, are not to be had then.
    """

    def __init__(self, target: str | ConnectionPool[Connection[Any]] | None = None) -> None:
        self._url = target if isinstance(target, str) else None
        self._pool = None if isinstance(target, str) else target
        self._owns_pool = isinstance(target, str)
        self._lock = Lock()
        self._shown = shown(target, "event") if isinstance(target, str) else "the event store"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the store's connections. Safe at any time, any number of times."""
        if self._owns_pool and self._pool is not None:
            pool, self._pool = self._pool, None
            pool.close()

    def create_stream(
        self,
        name: str,
        *,
        description: str | None = None,
        connection: CallerConnection | None = None,
    ) -> bool:
        """Creates the stream, unless it is there. Nobody who uses another stream has to wait.

        Args:
            name: Lower-case letters, digits and underscores, with single hyphens between; begins
                with a letter; at most 63 characters.
            description: For people, shown by `eventferry streams list`.
            connection: The caller's, in whose transaction the stream is created. None: at once.

        Returns:
            False if it was there already; it is left as it is then.

        Raises:
            InvalidStreamName: no stream can be called that.
        """
        require_stream_name(name)
        with self._statements(connection) as statements:
            return statements.create_stream(name, description)

    def streams(self, *, connection: CallerConnection | None = None) -> list[Stream]:
        """The streams of the store, in the order of their creation."""
        with self._statements(connection) as statements:
            return statements.streams()

    def append(
        self,
        stream: str,
        events: Event | Iterable[Event],
        *,
        expected_version: int | None = None,
        connection: CallerConnection | None = None,
    ) -> Appended:
        """Appends one event or many: all of them, or none.

        An event whose id is in the stream already, with the same content, is left alone: an
        append may be repeated.

        Args:
            stream: The name of the stream.
            events: One event or many; their order is kept.
            expected_version: The version that their one entity must be at (0: it must be new);
                the events are numbered on from there. None: they get no version. Local stores
                only.
            connection: The caller's, in whose transaction the append becomes a part: psycopg's,
                or SQLAlchemy's session or connection. It is neither committed nor rolled back,
                and stays usable after a VersionConflict or an EventIdConflict. None: a
                transaction of its own.

        Raises:
            VersionConflict: the entity is at another version.
            EventIdConflict: an event with this id and other content is there.
            InvalidEvent: an event can't be kept; `EventTooLarge` if its size is the reason.
            ValueError: `expected_version` with events of several entities, or of none.
            TransactionRequired: the connection would commit the append at once.
            InvalidStreamName: no stream can be called that.
            UnknownStream: the store has no such stream.
            StoreError: `expected_version` in a shared store, or no privilege to append.
        """
        require_stream_name(stream)
        rows = _row.rows(
            [events] if isinstance(events, Event) else events, expected_version=expected_version
        )
        if rows or connection is not None:
            with self._statements(connection) as statements:
                if connection is not None:
                    statements.require_transaction()
                if rows:
                    self._insert(statements, stream, rows)
        return Appended(stream, tuple(row.id for row in rows), self, connection)

    def read(
        self,
        stream: str,
        *,
        after: int = 0,
        before: int | None = None,
        types: Iterable[str] | None = None,
        limit: int | None = None,
        backwards: bool = False,
    ) -> Iterator[RecordedEvent]:
        """The stream's events in order, up to the horizon that it has when the reading begins.

        Memory holds one page at a time, and no transaction stays open between pages. To read on
        later, pass the position of the last event as `after` (backwards: as `before`).

        Args:
            stream: The name of the stream.
            after: Only events whose position is greater.
            before: Only events whose position is smaller; None: up to the horizon.
            types: Only events of these types; None: of all.
            limit: How many events at most; None: all.
            backwards: The newest first.

        Raises:
            ValueError: `limit` is negative, a number is none, or `types` are not texts.
            InvalidStreamName: no stream can be called that.
            UnknownStream: the store has no such stream.
        """
        _row.require_whole(limit=limit, after=after, before=before)
        if limit is not None and limit < 0:
            raise ValueError(f"limit must be 0 or more, or None for all events, not {limit}")
        wanted = None if types is None else _row.event_types(types)
        upto = (self.horizon(stream)).position
        if before is not None:
            upto = min(upto, before - 1)
        left = limit
        page: list[RecordedEvent] = []
        bounded: bool | None = None
        while left is None or left > 0:
            size = PAGE_SIZE if left is None else min(PAGE_SIZE, left)
            with self._use() as conn, event_cursor(conn) as cursor:
                if page and bounded is None:  # one page costs little to bound, many do
                    bounded = self._is_large(conn, stream)
                statement = _row.select_between(
                    stream,
                    by_type=types is not None,
                    down=backwards,
                    bounded=bounded is not False,
                )
                bounds = [after, upto] if wanted is None else [after, upto, wanted]
                cursor.execute(statement, [*bounds, size])
                page = cursor.fetchall()
            for event in page:
                yield event
            if not _row.is_full(page, size):
                return
            if backwards:
                upto = page[-1].position - 1
            else:
                after = page[-1].position
            left = None if left is None else left - len(page)

    def _is_large(self, conn: Connection[Any], stream: str) -> bool:
        """Whether the stream has large events: too large for any thousand of them to be a page."""
        with plain_cursor(conn) as cursor:
            cursor.execute(sql.query("is_large"), (_row.LARGE_BYTES, stream))
            (is_large,) = cursor.fetchone() or (True,)
        return bool(is_large)

    def read_entity(
        self, stream: str, entity_id: str, *, connection: CallerConnection | None = None
    ) -> list[RecordedEvent]:
        """The entity's events in order: all that are committed, and those of one's own transaction.

        Args:
            stream: The name of the stream.
            entity_id: The entity's; one without events gives an empty list.
            connection: The caller's, to see what its transaction has appended. None: one of the
                store's own.

        Raises:
            InvalidEvent: no entity can have this id.
            InvalidStreamName: no stream can be called that.
            UnknownStream: the store has no such stream.
        """
        require_name("entity_id", entity_id)
        require_stream_name(stream)
        with self._statements(connection) as statements:
            return statements.entity(stream, entity_id)

    def horizon(self, *streams: str) -> Horizon:
        """Up to where the streams may be read, all together.

        Raises:
            InvalidStreamName: no stream can be called that.
            UnknownStream: the store has no such stream.
        """
        with self._use() as conn:
            return horizon(conn, streams, self._shown)

    @contextmanager
    def _statements(self, connection: CallerConnection | None) -> Iterator[_Native | Foreign]:
        """On the caller's connection, or on one of our own; the driver's errors become ours."""
        if connection is None:
            with self._use() as conn:
                yield _Native(conn)
            return
        with translated(self._shown):
            driver = driver_connection(connection)
            if isinstance(driver, Connection):
                try:
                    yield _Native(driver)
                finally:
                    if driver.broken:
                        give_up(connection)
            else:
                from eventferry.store._foreign import Foreign

                yield Foreign(driver)

    @contextmanager
    def _use(self) -> Iterator[Connection[Any]]:
        """A connection of our own; the driver's errors become ours."""
        with translated(self._shown):
            pool = self._pool or self._open()
            try:
                with pool.connection() as conn:
                    yield conn
            except PoolTimeout as error:
                raise StoreUnavailable(f"{self._shown} gave no connection: {error}") from error

    def _open(self) -> ConnectionPool[Connection[Any]]:
        if self._url is None:
            raise StoreError(
                "this event store has no URL and no pool: pass `connection=`, "
                "or make it with one, EventStore('postgresql://…')"
            )
        require_url(self._url, self._shown)
        arguments = options("store")
        # once by hand: a pool would hide a wrong password behind its time-out
        with Connection.connect(self._url, **arguments) as conn:
            cursor = conn.execute(sql.query("migrations"))
            migration.require_migrated(cursor.fetchall(), self._shown)
        pool: ConnectionPool[Connection[Any]] = ConnectionPool(
            self._url,
            kwargs=arguments,
            min_size=0,
            max_size=16,
            open=False,
            name="eventferry store",
            configure=configure,
        )
        pool.open()
        with self._lock:  # of several that open at once, the first one's is kept; no I/O in here
            kept = self._pool = self._pool or pool
        if kept is not pool:
            pool.close()
        return kept

    def _insert(self, statements: _Native | Foreign, stream: str, rows: list[Row]) -> None:
        """Inserts the rows, less those that are there already with the same content."""
        for _ in range(ATTEMPTS):
            if statements.insert(stream, rows):
                return
            rows = self._settle(statements, stream, rows)
            if not rows:
                return
        raise StoreUnavailable(
            f"an append to stream {stream!r} found others in its way {ATTEMPTS} times, "
            "and each time they were gone when it looked. Try again"
        )

    def _settle(self, statements: _Native | Foreign, stream: str, rows: list[Row]) -> list[Row]:
        """What was in the way? Returns the rows that are still to be inserted.

        Raises:
            EventIdConflict, VersionConflict
        """
        kept = statements.kept(stream, [row.id for row in rows])
        for row in rows:
            if row.id in kept and (conflict := _row.difference(row, kept[row.id], stream)):
                raise conflict
        missing = [row for row in rows if row.id not in kept]
        if missing and missing[0].version is not None:
            expected, entity_id = missing[0].version - 1, str(missing[0].entity_id)
            actual = self._version(statements, stream, entity_id)
            if actual != expected:
                raise VersionConflict(
                    stream=stream, entity_id=entity_id, expected=expected, actual=actual
                )
        return missing

    def _version(self, statements: _Native | Foreign, stream: str, entity_id: str) -> int:
        """The entity's newest version; 0: it has none.

        Raises:
            StoreError: this store does not give out versions.
        """
        version, kind = statements.version(stream, entity_id)
        if kind != "local":
            raise StoreError(
                f"{self._shown} is a shared store: versions come there with the events, and are "
                "given out by the local store of the service that they happen in. Append with "
                "expected_version there, or without it here"
            )
        return version


class _Native:
    """A store's statements as psycopg speaks them, on one connection; `Foreign` has the same."""

    def __init__(self, conn: Connection[Any]) -> None:
        self._conn = conn

    def require_transaction(self) -> None:
        """Refuses a caller's connection on which each statement would commit by itself.

        Raises:
            TransactionRequired: the connection is idle, and in autocommit.
        """
        if self._is_idle() and self._conn.autocommit:
            refuse_autocommit()

    def insert(self, stream: str, rows: Sequence[Row]) -> bool:
        """Inserts all rows, or none; False: something was in the way."""
        if len(rows) == 1:
            return self._insert_one(stream, rows)
        return self._insert_many(stream, rows)

    def _insert_one(self, stream: str, rows: Sequence[Row]) -> bool:
        """One statement, and so one round trip."""
        (row,) = rows
        columns = _row.given(rows)
        values = [row[place] for place in _row.places(columns)]
        if row.version is None:
            cursor = self._conn.execute(_row.statement("append_one", stream, columns), values)
        else:
            cursor = self._conn.execute(
                _row.statement("append_next", stream, columns),
                [*values, row.entity_id, row.version - 1],
            )
        return cursor.rowcount == 1

    def _insert_many(self, stream: str, rows: Sequence[Row]) -> bool:
        """One COPY, which keeps all or nothing."""
        idle = self._is_idle()
        if idle and not self._conn.autocommit:
            # Begins the caller's transaction: else our savepoint would be the transaction
            # itself, and commit it.
            self._conn.execute("SELECT")
        # on our own connection, a COPY without a version to check is a transaction by itself
        alone = idle and self._conn.autocommit and rows[0].version is None
        try:
            with nullcontext() if alone else self._conn.transaction():
                first = rows[0]
                if first.version is not None:
                    actual, kind = self.version(stream, first.entity_id)
                    if kind != "local" or actual != first.version - 1:
                        return False
                self._copy(stream, self._filled(rows))
        except psycopg.errors.UniqueViolation:
            return False
        return True

    def _is_idle(self) -> bool:
        return self._conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE

    def _copy(self, stream: str, rows: Sequence[Row]) -> None:
        columns = _row.given(rows)
        places = _row.places(columns)
        statement = _row.statement("append_copy", stream, columns)
        with self._conn.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(_row.copy_types(columns))
            for row in rows:
                copy.write_row([row[place] for place in places])

    def _filled(self, rows: Sequence[Row]) -> Sequence[Row]:
        """The rows with the columns' defaults where some have a value and others have none."""
        given = [(row.source is None, row.occurred_at is None) for row in rows]
        if len(set(given)) <= 1:
            return rows
        with plain_cursor(self._conn) as cursor:
            cursor.execute(sql.query("defaults"))
            source, now = cursor.fetchone() or (None, None)
        return [
            row._replace(source=row.source or source, occurred_at=row.occurred_at or now)
            for row in rows
        ]

    def kept(self, stream: str, ids: Sequence[UUID]) -> dict[UUID, Row]:
        """The rows that are there under these ids."""
        with plain_cursor(self._conn) as cursor:
            statement = _row.statement("select_by_id", stream, _row.COLUMNS)
            cursor.execute(statement, (list(ids),))
            return {row.id: row for row in map(Row._make, cursor.fetchall())}

    def version(self, stream: str, entity_id: str | None) -> tuple[int, str | None]:
        """The entity's newest version, 0: it has none; and the kind of the store."""
        with plain_cursor(self._conn) as cursor:
            cursor.execute(sql.on_stream("entity_version", stream), (entity_id,))
            version, kind = cursor.fetchone() or (0, None)
        return int(version), kind

    def positions(self, stream: str, ids: Sequence[UUID]) -> dict[UUID, int]:
        """The positions of the events with these ids."""
        with plain_cursor(self._conn) as cursor:
            cursor.execute(sql.on_stream("positions", stream), (list(ids),))
            return dict(cursor.fetchall())

    def entity(self, stream: str, entity_id: str) -> list[RecordedEvent]:
        """The entity's events, in order."""
        with event_cursor(self._conn) as cursor:
            cursor.execute(_row.select_entity(stream), (entity_id,))
            return cursor.fetchall()

    def create_stream(self, name: str, description: str | None) -> bool:
        """Whether the stream is new."""
        with plain_cursor(self._conn) as cursor:
            cursor.execute(sql.query("create_stream"), (name, description))
            row = cursor.fetchone()
        return bool(row and row[0])

    def streams(self) -> list[Stream]:
        """The streams, in the order of their creation."""
        with _cursor(self._conn, class_row(Stream)) as cursor:
            cursor.execute(sql.query("streams"))
            return cursor.fetchall()


def configure(conn: Connection[Any]) -> None:
    """Sets up a connection of a pool of ours; sets nothing of its session.

    Its transactions begin as READ COMMITTED, whatever the default of the database is: a horizon
    needs that. It prepares what it repeats, unless a pooler stands in between, which would give
    the next transaction to a server connection that knows nothing of it.
    """
    conn.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)
    if is_direct(conn):
        conn.prepare_threshold = PREPARE_THRESHOLD


def is_direct(conn: Connection[Any]) -> bool:
    """Whether the connection is one to the server itself, and not to a pooler before it.

    The server tells a connection at its start which process it talks to. A pooler such as
    PgBouncer hands connections from client to client, so it tells each a number of its own.
    """
    with plain_cursor(conn) as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone() == (conn.info.backend_pid,)


def observe(conn: Connection[Any], streams: Sequence[str]) -> Horizon:
    """Up to where the streams may be read; those that are not there have no incarnation.

    What is read up to it must be read by a later statement, in a new snapshot.
    """
    # In READ COMMITTED, whatever the database's default is; in one round trip.
    with plain_cursor(conn) as cursor:
        with conn.pipeline(), conn.transaction():
            cursor.execute(sql.query("horizon"), (list(streams),))
        row = cursor.fetchone()
    assert row is not None
    return Horizon(
        store=row[0],
        incarnations=tuple(row[1] or ()),
        head=row[2],
        position=row[3],
        in_flight=row[4],
    )


def horizon(conn: Connection[Any], streams: Sequence[str], store: str) -> Horizon:
    """As `observe`, of streams that must be there; `store` names the store in messages.

    Raises:
        InvalidStreamName: no stream can be called that.
        UnknownStream: there is no such stream.
    """
    found = observe(conn, streams)
    for stream, incarnation in zip(streams, found.incarnations, strict=True):
        if incarnation is None:
            require_stream_name(stream)
            raise UnknownStream(
                f"{store} has no stream {stream!r}. {how_to_create(stream)}",
                stream=stream,
            )
    return found


def event_cursor(conn: Connection[Any]) -> psycopg.Cursor[RecordedEvent]:
    """A cursor whose rows are events, with their JSON as the store keeps it."""
    return _cursor(conn, _event_row)


def plain_cursor(conn: Connection[Any]) -> psycopg.Cursor[tuple[Any, ...]]:
    """A cursor whose rows are tuples, with their JSON as the store keeps it."""
    return _cursor(conn, tuple_row)


def _cursor(conn: Connection[Any], row_factory: Any) -> psycopg.Cursor[Any]:
    """The same whatever cursors, rows, loaders and DateStyle a caller's connection is set to."""
    cursor = psycopg.Cursor(conn, row_factory=row_factory)
    cursor.format = psycopg.pq.Format.BINARY
    cursor.adapters.register_loader("json", TextBinaryLoader)
    cursor.adapters.register_loader("uuid", UUIDBinaryLoader)
    return cursor


def _event_row(_cursor: psycopg.Cursor[Any] | psycopg.Cursor[Any]) -> Any:
    return lambda values: RecordedEvent(*values)


def keep_json_as_text(cursor: psycopg.Cursor[Any]) -> None:
    """Decodes no JSON: whatever loaders the connection has, its cursor gives the text."""
    for loader in (TextLoader, TextBinaryLoader):
        cursor.adapters.register_loader("json", loader)
