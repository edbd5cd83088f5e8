"""The handlers of both services: one row an event and projection, with no key to hide a double.

Some events tell one of their projections to fail: to raise at the first attempts, or to end the
process the first time. What has struck leaves a mark beside this file, outside of any transaction.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, LiteralString

from eventferry import AsyncContext, Context, Event, RecordedEvent

MARKS = Path(__file__).parent / "marks"
WORK_S = 0.002
"""What an event takes: a fault is to find batches that are open."""
RECORD: LiteralString = "INSERT INTO effects (projection, event_id) VALUES (%s, %s)"


class Raised(Exception):
    """What some handlers raise at some events."""


async def journal(event: RecordedEvent, context: AsyncContext) -> None:
    strike(event, context)
    await asyncio.sleep(WORK_S)
    await context.connection.execute(RECORD, (context.projection, event.id))


digest = journal


def welcome(event: RecordedEvent, context: Context) -> None:
    context.connection.execute(RECORD, (context.projection, event.id))
    context.append("mails-stream", Event("Welcomed", entity_id=event.entity_id))
    time.sleep(WORK_S)
    strike(event, context)


class Answers:
    def handle(self, event: RecordedEvent, context: Context) -> None:
        self.handle_batch([event], context)

    def handle_batch(self, events: Sequence[RecordedEvent], context: Context) -> None:
        for event in events:
            context.connection.execute(RECORD, (context.projection, event.id))
            time.sleep(WORK_S)
            strike(event, context)


def strike(event: RecordedEvent, context: Any) -> None:
    """Fails, if the event says so."""
    fault = event.data.get("fault")
    if fault is None or fault["projection"] != context.projection:
        return
    if fault["times"] == 0 and marked(f"exited {event.id}"):
        os._exit(13)
    if context.attempt <= fault["times"]:
        marked(f"raised {event.id} {time.monotonic_ns()}")
        raise Raised(f"attempt {context.attempt} of {fault['times']} that fail")


def marked(name: str) -> bool:
    """Leaves a mark; False: it is there."""
    try:
        (MARKS / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
