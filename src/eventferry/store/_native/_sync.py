# Generated from src/eventferry/store/_native/_async.py by tools/async_to_sync.py; do not edit.
"""A store's statements in psycopg's own words, and how its connections and cursors are set up.

For all who speak to a store: the statements of `EventStore`, horizons, cursors that give
what the store keeps, whatever a connection is set to.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from operator import itemgetter
from typing import Any
from uuid import UUID

import psycopg
from psycopg import Connection
from psycopg.rows import class_row, tuple_row
from psycopg.types.string import TextBinaryLoader
from psycopg.types.uuid import UUIDBinaryLoader

from eventferry import sql
from eventferry.connection import PREPARE_THRESHOLD, how_to_create, refuse_autocommit
from eventferry.errors import UnknownStream
from eventferry.event import RecordedEvent, event_of
from eventferry.store import _row
from eventferry.store._horizon import Horizon, Stream
from eventferry.store._row import Row
from eventferry.stream import require_stream_name


class Native:
    """A store's statements as psycopg speaks them, on one connection; `Foreign` has the same."""

    def __init__(self, conn: Connection[Any], *, gives_versions: bool = False) -> None:
        self._conn = conn
        self.gives_versions = gives_versions
        """Whether this is known of the store: what kind it is never changes."""

    def require_transaction(self) -> None:
        """Refuses a caller's connection on which each statement would commit by itself.

        Raises:
            TransactionRequired: the connection is idle, and in autocommit.
        """
        if self._commits_each():
            refuse_autocommit()

    def insert(self, stream: str, rows: Sequence[Row]) -> bool:
        """Inserts all rows, or none; False: something was in the way."""
        insert = self._insert_one if len(rows) == 1 else self._insert_many
        if not insert(stream, rows):
            return False
        if rows[0].version is not None:
            self.gives_versions = True
        return True

    def _insert_one(self, stream: str, rows: Sequence[Row]) -> bool:
        """One statement, and so one round trip."""
        (row,) = rows
        values: list[object] = [value for value in row if value is not None]
        name, alone = "append_one", False
        if row.version is not None:
            alone = self.gives_versions and self._commits_each()
            name = "append_next_alone" if alone else "append_next"
            values += (row.entity_id, row.version - 1)
        try:
            cursor = self._conn.execute(_row.statement(name, stream, _row.given(rows)), values)
        except psycopg.errors.UniqueViolation as error:
            if not alone or not _is_of_streams(error):
                raise
            return False  # what is alone has left nothing behind
        return cursor.rowcount == 1

    def _insert_many(self, stream: str, rows: Sequence[Row]) -> bool:
        """One COPY, which keeps all or nothing."""
        alone = self._commits_each()
        if not alone and self._is_idle():
            # Begins the caller's transaction: else our savepoint would be the transaction
            # itself, and commit it.
            self._conn.execute("SELECT")
        # On our own connection, the COPY is a transaction by itself. What the check has seen holds
        # until then: who appends in between takes the first version, and the unique index tells.
        try:
            with nullcontext() if alone else self._conn.transaction():
                first = rows[0]
                if first.version is not None:
                    actual, kind = self.version(stream, first.entity_id)
                    if kind != "local" or actual != first.version - 1:
                        return False
                self._copy(stream, self._filled(rows))
        except psycopg.errors.UniqueViolation as error:
            if not _is_of_streams(error):
                raise
            return False
        return True

    def _commits_each(self) -> bool:
        """Whether each statement is a transaction by itself."""
        return self._conn.autocommit and self._is_idle()

    def _is_idle(self) -> bool:
        return self._conn.pgconn.transaction_status == psycopg.pq.TransactionStatus.IDLE

    def _copy(self, stream: str, rows: Sequence[Row]) -> None:
        columns = _row.given(rows)
        values = itemgetter(*_row.places(columns))
        statement = _row.statement("append_copy", stream, columns)
        with self._conn.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(_row.copy_types(columns))
            for row in rows:
                copy.write_row(values(row))

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


def _is_of_streams(error: psycopg.Error) -> bool:
    """Whether a stream's own index refuses a row, and not what a trigger of the user's writes."""
    return error.diag.schema_name == "streams"


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
    names = list(streams)
    with plain_cursor(conn) as cursor:
        # a transaction around it would take as long again
        cursor.execute(sql.query("horizon"), (names, False))
        row = cursor.fetchone()
        if row is None:  # the database's default is not READ COMMITTED
            with conn.transaction():
                cursor.execute(sql.query("horizon"), (names, True))
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


def is_large(conn: Connection[Any], streams: Sequence[str]) -> bool:
    """Whether the streams have large events: too large for any thousand of them to be a page."""
    with plain_cursor(conn) as cursor:
        cursor.execute(sql.query("is_large"), (_row.LARGE_BYTES, list(streams)))
        (found,) = cursor.fetchone() or (True,)
    return bool(found)


def event_cursor(conn: Connection[Any]) -> psycopg.Cursor[RecordedEvent]:
    """A cursor whose rows are events, with their JSON as the store keeps it."""
    return _cursor(conn, _event_row)


def plain_cursor(conn: Connection[Any]) -> psycopg.Cursor[tuple[Any, ...]]:
    """A cursor whose rows are tuples, with their JSON as the store keeps it."""
    return _cursor(conn, tuple_row)


def numbered_cursor(conn: Connection[Any]) -> psycopg.RawCursor[tuple[Any, ...]]:
    """The same for statements whose parameters are $1, $2, …"""
    cursor = psycopg.RawCursor(conn, row_factory=tuple_row)
    _set_up(cursor)
    return cursor


def _cursor(conn: Connection[Any], row_factory: Any) -> psycopg.Cursor[Any]:
    cursor = psycopg.Cursor(conn, row_factory=row_factory)
    _set_up(cursor)
    return cursor


def _set_up(cursor: psycopg.Cursor[Any] | psycopg.RawCursor[Any]) -> None:
    """The same whatever cursors, rows, loaders and DateStyle a caller's connection is set to."""
    cursor.format = psycopg.pq.Format.BINARY
    cursor.adapters.register_loader("json", TextBinaryLoader)
    cursor.adapters.register_loader("uuid", UUIDBinaryLoader)


def _event_row(_cursor: psycopg.Cursor[Any] | psycopg.Cursor[Any]) -> Any:
    return event_of
