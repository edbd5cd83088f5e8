"""A store's statements by SQLAlchemy's `text()`, for callers whose driver is not psycopg.

Parameters and answers are JSON texts (but for single texts and numbers), so that no driver makes
anything of a type. Events are one parameter of one statement, however many they are.

Sync; SQLAlchemy's greenlets make it async where that is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar
from uuid import UUID

import msgspec
from psycopg import sql as pgsql
from sqlalchemy import Connection, text

from eventferry import sql
from eventferry.caller import begun
from eventferry.connection import refuse_autocommit
from eventferry.event import RecordedEvent, event_of
from eventferry.store import _row
from eventferry.store._horizon import Stream
from eventferry.store._row import Row

if TYPE_CHECKING:  # it needs greenlet, which not everybody has who uses `Session`
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

P = ParamSpec("P")
T = TypeVar("T")


class Foreign:
    """The statements, on a caller's connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def require_transaction(self) -> None:
        if getattr(self._connection.connection.dbapi_connection, "autocommit", False):
            refuse_autocommit()

    def insert(self, stream: str, rows: Sequence[Row]) -> bool:
        if len(rows) == 1:
            return self._insert(stream, rows) == 1
        with self._connection.begin_nested() as savepoint:
            is_whole = self._insert(stream, rows) == len(rows)
            if not is_whole:
                savepoint.rollback()
        return is_whole

    def _insert(self, stream: str, rows: Sequence[Row]) -> int:
        first = rows[0]
        parameters = {
            "events": _encoded([_record(row) for row in rows]),
            "entity_id": first.entity_id,
            "expected": None if first.version is None else first.version - 1,
        }
        return self._connection.execute(
            text(_append(stream, _row.given(rows))), parameters
        ).rowcount

    def kept(self, stream: str, ids: Sequence[UUID]) -> dict[UUID, Row]:
        statement = _select("select_by_id_json", stream, _row.COLUMNS)
        rows = self._ask(statement, _ROW, ids=_encoded(ids))
        return {row.id: row._replace(occurred_at=_utc(row.occurred_at)) for row in rows}

    def version(self, stream: str, entity_id: str | None) -> tuple[int, str | None]:
        statement = sql.on_stream("entity_version_json", stream).decode()
        (found,) = self._ask(statement, _VERSION, entity_id=entity_id)
        return found

    def positions(self, stream: str, ids: Sequence[UUID]) -> dict[UUID, int]:
        statement = _select("select_by_id_json", stream, ("id", "position"))
        return dict(self._ask(statement, _POSITION, ids=_encoded(ids)))

    def entity(self, stream: str, entity_id: str) -> list[RecordedEvent]:
        statement = _select("select_entity_json", stream, _row.SELECTED)
        found = self._ask(statement, _EVENT, entity_id=entity_id)
        return [
            event_of((stream, *fields, _utc(occurred_at), _utc(recorded_at)))
            for *fields, occurred_at, recorded_at in found
        ]

    def create_stream(self, name: str, description: str | None) -> bool:
        statement = sql.query("create_stream_json")
        return self._ask(statement, _TRUTH, name=name, description=description) == [True]

    def streams(self) -> list[Stream]:
        return self._ask(sql.query("streams_json"), _STREAM)

    def _ask(self, statement: str, decoder: msgspec.json.Decoder[T], **parameters: Any) -> list[T]:
        rows = self._connection.execute(text(statement), parameters)
        return [decoder.decode(row[0]) for row in rows]


class AsyncForeign:
    """The same for asyncio."""

    def __init__(self, connection: AsyncConnection | AsyncSession) -> None:
        self._connection = connection

    async def require_transaction(self) -> None:
        await self._run(Foreign.require_transaction)

    async def insert(self, stream: str, rows: Sequence[Row]) -> bool:
        return await self._run(Foreign.insert, stream, rows)

    async def kept(self, stream: str, ids: Sequence[UUID]) -> dict[UUID, Row]:
        return await self._run(Foreign.kept, stream, ids)

    async def version(self, stream: str, entity_id: str | None) -> tuple[int, str | None]:
        return await self._run(Foreign.version, stream, entity_id)

    async def positions(self, stream: str, ids: Sequence[UUID]) -> dict[UUID, int]:
        return await self._run(Foreign.positions, stream, ids)

    async def entity(self, stream: str, entity_id: str) -> list[RecordedEvent]:
        return await self._run(Foreign.entity, stream, entity_id)

    async def create_stream(self, name: str, description: str | None) -> bool:
        return await self._run(Foreign.create_stream, name, description)

    async def streams(self) -> list[Stream]:
        return await self._run(Foreign.streams)

    async def _run(
        self, statement: Callable[Concatenate[Foreign, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        def run(given: Any) -> T:
            return statement(Foreign(begun(given)), *args, **kwargs)

        return await self._connection.run_sync(run)


_ROW = msgspec.json.Decoder(Row)
_EVENT = msgspec.json.Decoder(
    tuple[int, UUID, str, str, str | None, int | None, str, str, datetime, datetime]
)
_VERSION = msgspec.json.Decoder(tuple[int, str | None])
_POSITION = msgspec.json.Decoder(tuple[UUID, int])
_STREAM = msgspec.json.Decoder(Stream)
_TRUTH = msgspec.json.Decoder(bool)


def _utc(moment: datetime | None) -> datetime | None:
    """The moment that a statement has said in UTC, and without a zone."""
    return moment and moment.replace(tzinfo=UTC)


def _encoded(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _record(row: Row) -> dict[str, Any]:
    moment = row.occurred_at
    return row._replace(occurred_at=moment and moment.astimezone(UTC))._asdict()


@lru_cache(maxsize=4096)
def _append(stream: str, columns: tuple[str, ...]) -> str:
    return sql.composed(
        "append_json",
        stream=sql.table(stream),
        columns=pgsql.SQL(", ").join(map(pgsql.Identifier, columns)),
        values=pgsql.SQL(", ").join(pgsql.SQL(_APPENDED.get(name, name)) for name in columns),
    ).as_string(None)


@lru_cache(maxsize=4096)
def _select(name: str, stream: str, columns: tuple[str, ...]) -> str:
    return sql.composed(
        name,
        stream=sql.table(stream),
        columns=pgsql.SQL(", ").join(pgsql.SQL(_SELECTED.get(name, name)) for name in columns),
    ).as_string(None)


_APPENDED = {
    "data": "CAST(data AS json)",
    "metadata": "CAST(metadata AS json)",
    # as defaults.sql says, where an event names none and another of this append does
    "source": "coalesce(source, (SELECT service FROM eventferry.store), current_user)",
    "occurred_at": "coalesce(occurred_at, statement_timestamp())",
}
_SELECTED = {
    "data": "CAST(data AS text)",
    "metadata": "CAST(metadata AS text)",
    "occurred_at": "occurred_at AT TIME ZONE 'UTC'",
    "recorded_at": "recorded_at AT TIME ZONE 'UTC'",
}
"""JSON as the store keeps it, and moments that are the same in a session of any time zone."""
