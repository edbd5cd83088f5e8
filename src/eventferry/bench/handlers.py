"""What the projections of the benchmark's workers call."""

from __future__ import annotations

from eventferry.engine.context._sync import Context
from eventferry.event import RecordedEvent

ARRIVALS = """
CREATE TABLE arrivals (
    place bigint GENERATED ALWAYS AS IDENTITY, event_id uuid, projection text, position bigint
)
"""
RECORD = "INSERT INTO arrivals (event_id, projection, position) VALUES (%s, %s, %s)"


def nothing(event: RecordedEvent) -> None:
    """Handles an event, without any effect."""


def record(event: RecordedEvent, context: Context) -> None:
    """One row an event, without a key that would hide a double."""
    context.execute(RECORD, (event.id, context.projection, event.position))


def tell(event: RecordedEvent, context: Context) -> None:
    """The same, and tells those who listen."""
    record(event, context)
    context.execute("SELECT pg_notify('arrivals', %s)", (str(event.id),))
