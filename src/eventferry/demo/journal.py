"""What the writers know: a line of JSON for each transaction, written when it has ended.

The verdict trusts nothing else. An event counts as appended when, and only when, the COMMIT of
its transaction came back to the writer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from uuid import UUID

from eventferry.event import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One transaction of a writer."""

    committed: bool
    """Whether it was committed; else it was rolled back, and its events never happened."""
    begun_at: float
    """Before its first statement, in seconds since 1970."""
    events: tuple[tuple[UUID, str | None], ...]
    """Id and entity of what it appended, in order."""


def note(file: IO[str], events: Sequence[Event], *, committed: bool, begun_at: float) -> None:
    """Writes down a transaction that has ended."""
    ids = [[str(event.id), event.entity_id] for event in events]
    file.write(json.dumps({"committed": committed, "begun_at": begun_at, "events": ids}) + "\n")
    file.flush()


def read(paths: Iterable[Path]) -> list[Entry]:
    """All transactions of the journals; those of one writer are in their order."""
    return [_entry(line) for path in paths for line in path.read_text().splitlines()]


def _entry(line: str) -> Entry:
    noted = json.loads(line)
    return Entry(
        committed=noted["committed"],
        begun_at=noted["begun_at"],
        events=tuple((UUID(id_), entity) for id_, entity in noted["events"]),
    )
