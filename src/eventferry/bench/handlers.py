"""What the projections of the benchmark's workers call."""

from __future__ import annotations

from eventferry.engine._sync import Context
from eventferry.event import RecordedEvent

ARRIVALS = "CREATE TABLE arrivals (event_id uuid, projection text, position bigint)"


def nothing(event: RecordedEvent) -> None:
    """Handles an event, without any effect."""


def record(event: RecordedEvent, context: Context) -> None:
    """One row an event, without a key that would hide a double."""
    row = (event.id, context.projection, event.position)
    context.connection.execute("INSERT INTO arrivals VALUES (%s, %s, %s)", row)


def tell(event: RecordedEvent, context: Context) -> None:
    """The same, and tells those who listen."""
    record(event, context)
    context.connection.execute("SELECT pg_notify('arrivals', %s)", (str(event.id),))
