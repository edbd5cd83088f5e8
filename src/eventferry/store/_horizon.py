"""What a store says of itself before it is read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """Up to where streams may be read, all together, at one moment."""

    store: UUID
    """The store's identity."""
    incarnations: tuple[UUID | None, ...]
    """What tells each stream from an earlier one of its name, in the order asked in; None: there
    is no such stream."""
    head: int
    """The last position that anyone drew, in any stream of the store."""
    position: int
    """At or below it nothing can still appear in these streams."""
    in_flight: int
    """Appends to these streams whose transactions are open; one more if anybody drew a position
    while it was asked. 0: what is not read up to `position` has marked later, or not yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A stream, as its store lists it."""

    name: str
    """Its name, and that of its table in the schema `streams`."""
    number: int
    """Its place among the streams of its store."""
    incarnation: UUID
    """Tells it from an earlier stream of the same name."""
    owner: str | None
    """The service that it belongs to."""
    description: str | None
    """What it was created with."""
    created_at: datetime
    """When it was created, with a time zone."""
