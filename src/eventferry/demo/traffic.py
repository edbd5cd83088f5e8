"""The events that the demo appends: made up, or from a file; as CloudEvents lines, a file a writer.

All events of an entity go to the same writer, in order, so that there is an order to check.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID
from zlib import crc32

from eventferry import cloudevent
from eventferry._uuid import uuid7
from eventferry.demo.failure import DemoMisused
from eventferry.errors import InvalidEvent

TYPES = ("EmailChanged", "PlanChosen", "PasswordChanged", "InvoicePaid", "UserLoggedIn")
EVENTS_A_USER = 5


def made_up(count: int, *, name: str = "user") -> Iterator[str]:
    """The lives of some users: each registers, and then this and that happens."""
    users = max(1, count // EVENTS_A_USER)
    registered: set[int] = set()
    for _ in range(count):
        number = random.randrange(users)
        type_ = random.choice(TYPES) if number in registered else "UserRegistered"
        registered.add(number)
        yield line(type_, f"{name}-{number}", {"email": f"{name}.{number}@Example.org"})


def line(type_: str, user: str, data: dict[str, Any]) -> str:
    """An event of service users, as a CloudEvent."""
    return json.dumps(
        {
            "specversion": "1.0",
            "id": str(uuid7()),
            "source": "users",
            "type": type_,
            "subject": user,
            "time": f"{datetime.now(UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z",
            "datacontenttype": "application/json",
            "data": data,
        }
    )


def from_file(path: Path) -> list[str]:
    """The lines of a file, each of which has been looked at.

    Raises:
        DemoMisused: it can't be read, or a line is not a CloudEvent that the demo can handle.
    """
    try:
        lines = [text for text in path.read_text("utf-8").splitlines() if text.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DemoMisused(f"{path} can't be read: {error}") from error
    if not lines:
        raise DemoMisused(f"{path} is empty; expected CloudEvents, one a line")
    seen: set[UUID] = set()
    for number, text in enumerate(lines, 1):
        try:
            event = cloudevent.parse(text).event
        except InvalidEvent as error:
            raise DemoMisused(f"{path}, event {number}: {error}") from error
        if event.id in seen:
            raise DemoMisused(f"{path}, event {number}: event {event.id} is in the file twice")
        if not isinstance(event.data.get("email", ""), str):
            raise DemoMisused(
                f"{path}, event {number}: the demo's handler takes `email` for text, where there "
                "is one. (That it may be null is the bug of its third act)"
            )
        seen.add(event.id)
    return lines


def dealt(lines: Iterable[str], writers: int) -> list[list[str]]:
    """The lines of each writer: those of one entity go to the same."""
    hands: list[list[str]] = [[] for _ in range(writers)]
    for text in lines:
        given = json.loads(text)
        entity = str(given.get("subject", given["id"]))
        hands[crc32(entity.encode()) % writers].append(text)
    return hands
