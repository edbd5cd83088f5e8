# Generated from src/eventferry/store/_async.py by tools/async_to_sync.py; do not edit.
"""The event store.

Owns the conversation with a store's stream tables: append, read, create. The guarantees are the
database's (see sql/migrations): this only asks well, and turns answers into objects and errors.
It never commits or rolls back a transaction of the caller's.

Of an append, either all is kept or nothing. What was there already, with the same content, is
not appended again; see `_insert`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from psycopg import Connection
from psycopg_pool import ConnectionPool, PoolTimeout

from eventferry import migration, sql, tracing
from eventferry.caller import driver_connection, give_up, has_ended
from eventferry.connection import options, require_url, shown, translated
from eventferry.errors import StoreError, StoreUnavailable, VersionConflict
from eventferry.event import Event, Events, RecordedEvent, require_name
from eventferry.store import _row
from eventferry.store._horizon import Horizon, Stream
from eventferry.store._native._sync import (
    Native,
    configure,
    horizon,
    is_large,
    plain_cursor,
)
from eventferry.store._row import Row, Rows
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
        self._gives_versions = False
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

        Metadata says by which event the append is caused, in a handler, and of which trace it is,
        with OpenTelemetry; unless the events say so themselves.

        Args:
            stream: The name of the stream.
            events: One event or many; their order is kept.
            expected_version: The version that their one entity must be at (0: it must be new);
                the events are numbered on from there. None: they get no version. Local stores
                only.
            connection: The caller's, in whose transaction the append becomes a part: psycopg's,
                SQLAlchemy's session or connection, or, for `EventStore`, Django's. It is neither
                committed nor rolled back, and stays usable after a VersionConflict or an
                EventIdConflict. None: a transaction of its own.

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
        given = _row.given_events(events)
        with tracing.appending(stream, given) as added:
            rows = _row.rows(given, expected_version=expected_version, added=added)
            if rows or connection is not None:
                with self._statements(connection) as statements:
                    if connection is not None:
                        statements.require_transaction()
                    if rows:
                        self._insert(statements, stream, rows, added)
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
        page: Rows | None = None
        bounded: bool | None = None
        while left is None or left > 0:
            size = PAGE_SIZE if left is None else min(PAGE_SIZE, left)
            with self._use() as conn, plain_cursor(conn) as cursor:
                if page and bounded is None:  # one page costs little to bound, many do
                    bounded = is_large(conn, [stream])
                statement = _row.select_between(
                    stream,
                    by_type=types is not None,
                    down=backwards,
                    bounded=bounded is not False,
                )
                bounds = [after, upto] if wanted is None else [after, upto, wanted]
                cursor.execute(statement, [*bounds, size])
                page = Rows(cursor)
            for event in Events(page):
                yield event
            if not _row.is_full(page, size, bounded=bounded is not False):
                return
            if backwards:
                upto = page[-1][1] - 1
            else:
                after = page[-1][1]
            left = None if left is None else left - len(page)

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
    def _statements(self, connection: CallerConnection | None) -> Iterator[Native | Foreign]:
        """On the caller's connection, or on one of our own; the driver's errors become ours."""
        if connection is None:
            with self._use() as conn:
                statements = Native(conn, gives_versions=self._gives_versions)
                yield statements
                self._gives_versions |= statements.gives_versions
            return
        with translated(self._shown):
            driver = driver_connection(connection)
            if isinstance(driver, Connection):
                try:
                    yield Native(driver)
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
                conn = pool.getconn()
            except PoolTimeout as error:
                raise StoreUnavailable(f"{self._shown} gave no connection: {error}") from error
            try:
                if conn.autocommit:  # nothing is left to commit or to roll back
                    yield conn
                else:
                    with conn:
                        yield conn
            finally:
                pool.putconn(conn)

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

    def _insert(
        self,
        statements: Native | Foreign,
        stream: str,
        rows: list[Row],
        added: Mapping[str, Any],
    ) -> None:
        """Inserts the rows, less those that are there already with the same content."""
        for _ in range(ATTEMPTS):
            if statements.insert(stream, rows):
                return
            rows = self._settle(statements, stream, rows, added)
            if not rows:
                return
        raise StoreUnavailable(
            f"an append to stream {stream!r} found others in its way {ATTEMPTS} times, "
            "and each time they were gone when it looked. Try again"
        )

    def _settle(
        self,
        statements: Native | Foreign,
        stream: str,
        rows: list[Row],
        added: Mapping[str, Any],
    ) -> list[Row]:
        """What was in the way? Returns the rows that are still to be inserted.

        Raises:
            EventIdConflict, VersionConflict
        """
        kept = statements.kept(stream, [row.id for row in rows])
        for row in rows:
            there = kept.get(row.id)
            if there and (conflict := _row.difference(row, there, stream, added)):
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

    def _version(self, statements: Native | Foreign, stream: str, entity_id: str) -> int:
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
