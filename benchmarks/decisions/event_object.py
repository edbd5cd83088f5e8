"""What it costs to make an object of every row on read, beside fetching the rows as tuples.

python -m benchmarks.decisions.event_object [--seconds 1] [--rounds 7]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, cast
from uuid import UUID

import msgspec
from psycopg.types.string import ByteaBinaryLoader

from benchmarks.decisions.testbed import (
    DATA,
    METADATA,
    STORE,
    add_stream,
    rounds,
    server,
    show,
    timed,
)

PAGE = 1000
QUERY = (
    "SELECT 'users' AS stream, position, id, type, source, entity_id, version, data, metadata, "
    "occurred_at, recorded_at, 1::int4 AS number FROM streams.users "
    f"WHERE position > 0 ORDER BY position LIMIT {PAGE}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    stream: str
    position: int
    id: UUID
    type: str
    source: str
    entity_id: str | None
    version: int | None
    data: bytes
    metadata: bytes
    occurred_at: datetime
    recorded_at: datetime
    number: int


@dataclass(slots=True)
class Open:
    """Slotted and positional, but not frozen."""

    stream: str
    position: int
    id: UUID
    type: str
    source: str
    entity_id: str | None
    version: int | None
    data: bytes
    metadata: bytes
    occurred_at: datetime
    recorded_at: datetime
    number: int


class Named(NamedTuple):
    stream: str
    position: int
    id: UUID
    type: str
    source: str
    entity_id: str | None
    version: int | None
    data: bytes
    metadata: bytes
    occurred_at: datetime
    recorded_at: datetime
    number: int


class Wrapper:
    """A row behind properties."""

    __slots__ = ("_row",)

    def __init__(self, row: tuple[Any, ...]) -> None:
        self._row = row

    @property
    def position(self) -> int:
        return cast(int, self._row[1])


NAMES = tuple(Named._fields)

Struct = msgspec.defstruct("Struct", NAMES, frozen=True, gc=False)


def frozen(row: tuple[Any, ...]) -> Frozen:
    return Frozen(
        stream=row[0], position=row[1], id=row[2], type=row[3], source=row[4], entity_id=row[5],
        version=row[6], data=row[7], metadata=row[8], occurred_at=row[9], recorded_at=row[10],
        number=row[11],
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.7)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()

    with server() as lab, lab.connect() as connection:
        connection.execute(STORE)
        add_stream(connection, "streams.users", 1)
        connection.execute(
            "INSERT INTO streams.users (type, entity_id, version, data, metadata) "
            "SELECT 'UserRegistered', n::text, 1, %s, %s FROM generate_series(1, 3000) n",
            (DATA, METADATA),
        )
        connection.execute("VACUUM ANALYZE streams.users")
        connection.adapters.register_loader("json", ByteaBinaryLoader)

        def fetch() -> list[tuple[Any, ...]]:
            return connection.execute(QUERY, binary=True, prepare=True).fetchall()

        rows = fetch()
        makers: dict[str, Callable[[list[tuple[Any, ...]]], object]] = {
            "frozen slotted kw-only dataclass, by keyword": lambda rows: [
                frozen(row) for row in rows
            ],
            "frozen slotted kw-only dataclass, by zip": lambda rows: [
                Frozen(**dict(zip(NAMES, row, strict=True))) for row in rows
            ],
            "slotted dataclass, positional": lambda rows: [Open(*row) for row in rows],
            "named tuple": lambda rows: [*map(Named._make, rows)],
            "msgspec.Struct, frozen, positional": lambda rows: [Struct(*row) for row in rows],
            "wrapper around the row": lambda rows: [*map(Wrapper, rows)],
        }

        def fetched(make: Callable[[list[tuple[Any, ...]]], object]) -> object:
            return make(fetch())

        time_fetch = partial(timed, fetch, seconds=options.seconds, unit=PAGE)
        variants = {"fetch tuples": time_fetch}
        alone = {"fetch tuples": time_fetch}
        for name, make in makers.items():
            variants[f"fetch + {name}"] = partial(
                timed, partial(fetched, make), seconds=options.seconds, unit=PAGE
            )
            alone[name] = partial(
                timed, partial(make, rows), seconds=options.seconds / 2, unit=PAGE
            )
        for title, chosen in (
            ("Fetch and make objects", variants),
            ("Make objects of rows at hand", alone),
        ):
            results = rounds(chosen, count=options.rounds)
            show(title, results, baseline="fetch tuples", unit="rows/s")


if __name__ == "__main__":
    main()
