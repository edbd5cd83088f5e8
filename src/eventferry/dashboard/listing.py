"""How an event is shown: in a list, and by itself. What is not to be seen is left out. No I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from eventferry import _json, cloudevent
from eventferry.browse import EventSummary
from eventferry.dashboard.redaction import Redaction
from eventferry.errors import InvalidEvent
from eventferry.event import RecordedEvent, event_of

PREVIEW = 160
"""Characters of an event's data in a list."""


def listed(event: EventSummary, redaction: Redaction) -> dict[str, Any]:
    """An event of a list; its data None where it is large, or not to be seen."""
    return {
        "stream": event.stream,
        "position": event.position,
        "id": event.id,
        "type": event.type,
        "source": event.source,
        "entity_id": event.entity_id,
        "version": event.version,
        "occurred_at": event.occurred_at,
        "recorded_at": event.recorded_at,
        "data": part("data", event.data_json, redaction),
        "is_large": event.data_json is None,
    }


def part(name: str, text: str | None, redaction: Redaction) -> Mapping[str, Any] | None:
    """An event's data or metadata without what is hidden; None: not shown, or not to be read."""
    try:
        value = None if text is None else _json.loads(text)
    except InvalidEvent:  # any client may append: a number that is too large, say
        return None
    return None if value is None else redaction.shown(name, value)


def preview(data: Mapping[str, Any] | None) -> str:
    """The beginning of what is shown of an event's data, on one line."""
    if data is None:
        return ""
    text = json.dumps(data, ensure_ascii=False).encode(errors="replace").decode()
    return text if len(text) <= PREVIEW else f"{text[:PREVIEW]}…"


def whole(event: RecordedEvent, redaction: Redaction) -> dict[str, Any]:
    """An event by itself: its fields, and what may be seen of it as a CloudEvent."""
    data = part("data", event.data_json, redaction)
    metadata = part("metadata", event.metadata_json, redaction)
    return {
        "id": event.id,
        "type": event.type,
        "source": event.source,
        "entity_id": event.entity_id,
        "version": event.version,
        "occurred_at": event.occurred_at,
        "data": data,
        "metadata": metadata,
        "cloudevent": _cloudevent(event, data, metadata),
    }


def _cloudevent(
    event: RecordedEvent, data: Mapping[str, Any] | None, metadata: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """With what is shown and nothing else; None: nothing is, or a number that is none."""
    if data is None or metadata is None:
        return None
    seen = event_of(
        (
            event.stream,
            event.position,
            event.id,
            event.type,
            event.source,
            event.entity_id,
            event.version,
            json.dumps(data),
            json.dumps(metadata),
            event.occurred_at,
            event.recorded_at,
        )
    )
    try:
        return cloudevent.format(seen)
    except InvalidEvent:
        return None
