"""What is appended: an event as services have them, 300 bytes of data and 150 of metadata."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any, Final

from eventferry.event import Event

TYPE: Final = "UserRegistered"
DATA: Final[dict[str, Any]] = {
    "email": "ada.lovelace@example.org",
    "name": "Ada Lovelace",
    "address": {"street": "12 St James's Square", "city": "London", "zip": "SW1Y 4JH"},
    "plan": "premium",
    "seats": 12,
    "price": {"amount": "1490.00", "currency": "GBP", "interval": "year"},
    "tags": ["early", "newsletter"],
    "note": "Came by recommendation; wants to be called back.",
}
METADATA: Final[dict[str, Any]] = {
    "correlation_id": "0198c1d2-7e5f-7a3b-9d6e-2f4c5a6b7c8d",
    "user": "charles.babbage@example.org",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
}

_numbers = count(1)


def entity() -> str:
    """The id of an entity that nobody has had before."""
    return f"user-{next(_numbers)}"


def event(entity_id: str | None = None) -> Event:
    """One event of an entity of its own, unless another is given."""
    return Event(TYPE, DATA, entity_id=entity_id or entity(), metadata=METADATA)


def batches(total: int, size: int) -> Iterator[list[Event]]:
    """So many events, so many at a time; those of a batch are one entity's."""
    for first in range(0, total, size):
        one = entity()
        yield [event(one) for _ in range(min(size, total - first))]
