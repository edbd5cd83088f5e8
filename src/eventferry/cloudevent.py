"""CloudEvents 1.0 in JSON, one a line: how events come from and go to other systems.

| CloudEvents | here |
|---|---|
| `id` | `id`, where it is the canonical text of a UUID; else a UUIDv5 of `source` and `id` |
| `source`, `type`, `data` | the same; `data` is a JSON object, or absent |
| `subject` | `entity_id` |
| `time` | `occurred_at`; absent: the moment of the append |
| `entityversion` (extension) | `version` |
| `correlationid`, `causationid` | `metadata`: `correlation_id`, `causation_id` |
| `traceparent`, `tracestate` | `metadata`: the same |
| `eventferrymetadata` (JSON text) | the rest of `metadata` |
| whatever of it can't be derived from the above | `metadata["cloudevents"]`, by attribute |

`metadata["cloudevents"]` is the difference between the line that came and the one that would be
written without it (None: absent from the line). So what was read is written again as it came, as
JSON: by construction, whatever the line had in it. Only an attribute that is null counts as absent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from eventferry import _json
from eventferry.errors import InvalidEvent
from eventferry.event import Event, RecordedEvent

KEPT = "cloudevents"
"""The key of an event's metadata under which the rest of a CloudEvent is kept."""

_METADATA_EXTENSIONS = {
    "correlationid": "correlation_id",
    "causationid": "causation_id",
    "traceparent": "traceparent",
    "tracestate": "tracestate",
}
_OTHER_METADATA = "eventferrymetadata"
# What metadata may not override: it always follows from the event itself.
_FROM_EVENT = frozenset({"specversion", "source", "type", "subject", "entityversion"})
_MAX_VERSION = 2**31 - 1  # the stream tables' integer


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedCloudEvent:
    """A line, as an event that can be appended."""

    event: Event
    """The event, its `source` set."""
    version: int | None
    """The `entityversion` of the line: the event's number among those of its entity."""


def parse(line: bytes | str) -> ParsedCloudEvent:
    """The event of one line.

    Raises:
        InvalidEvent: the line is not JSON, not a CloudEvent 1.0, or its data is not an object.
    """
    given = _attributes_of(line)
    source, type_ = _text(given, "source"), _text(given, "type")
    version = _version(given)
    event = Event(
        type=type_,
        data=_data(given),
        entity_id=_text(given, "subject") if "subject" in given else None,
        metadata=_metadata(given),
        id=_id(_text(given, "id"), source),
        occurred_at=_time(given),
        source=source,
    )
    kept = _difference(given, _derived(event, version, data=event.data))
    if kept:
        event = replace(event, metadata={**event.metadata, KEPT: kept})
    return ParsedCloudEvent(event=event, version=version)


def format(recorded: RecordedEvent) -> dict[str, Any]:  # noqa: A001 - the opposite of parse
    """The event as a CloudEvent: its attributes, then its data."""
    attributes = _attributes(recorded)
    if attributes.pop("data", None) is not None:
        attributes["data"] = recorded.fresh().data
    return attributes


def format_line(recorded: RecordedEvent) -> str:
    """The event as a line of JSON, without its end; its data byte for byte as the store has it.

    Raises:
        InvalidEvent: its metadata hold a number that no Python float can (from a plain INSERT).
    """
    attributes = _attributes(recorded)
    has_data = attributes.pop("data", None) is not None
    text = _json.dumps(attributes, what=f"CloudEvent of {recorded.type} {recorded.id}")
    if not has_data:
        return text
    # in JSON, what would end the line is but white space between its parts
    data = recorded.data_json.replace("\r", " ").replace("\n", " ")
    return f'{text[:-1]},"data":{data}}}'


def _attributes(recorded: RecordedEvent) -> dict[str, Any]:
    """All that is not absent; under `data` whether there are any, as they need not be decoded."""
    event = recorded.fresh()
    attributes = _derived(event, event.version, data=True)
    kept = event.metadata.get(KEPT)
    if isinstance(kept, dict):
        attributes |= {key: value for key, value in kept.items() if key not in _FROM_EVENT}
    return {key: value for key, value in attributes.items() if value is not None}


# ---- from a CloudEvent


def _attributes_of(line: bytes | str) -> dict[str, Any]:
    expected = "expected one CloudEvent a line, in JSON"
    try:
        text = line.decode("utf-8-sig") if isinstance(line, bytes) else line
        given = _json.loads(text)
    except UnicodeDecodeError as error:
        wrong = f"its byte {error.start + 1} is 0x{error.object[error.start]:02x}"
        raise InvalidEvent(
            f"the line is not UTF-8: {wrong}; {expected}. Is the file compressed, or of another "
            "encoding?"
        ) from None
    except InvalidEvent as error:
        raise InvalidEvent(f"the line is {error}; {expected}") from error
    if not isinstance(given, dict):
        raise InvalidEvent(f"a CloudEvent is a JSON object, not {_kind(given)}")
    version = given.get("specversion")
    if version != "1.0":
        came = "it is missing" if version is None else f"not {_shown(version)}"
        raise InvalidEvent(f'specversion must be "1.0", {came}; is this a CloudEvent?')
    # Null is how some writers say absent; but for data it is a value.
    return {key: value for key, value in given.items() if value is not None or key == "data"}


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name)
    if value is None:
        raise InvalidEvent(f"{name} is missing: a CloudEvent has specversion, id, source and type")
    if not isinstance(value, str) or not value:
        raise InvalidEvent(f"{name} must be text that is not empty, not {_shown(value)}")
    return value


def _id(text: str, source: str) -> UUID:
    try:
        id_ = UUID(text)
    except ValueError:
        id_ = None
    if id_ is not None and str(id_) == text:
        return id_
    try:
        return uuid5(uuid5(NAMESPACE_URL, source), text)
    except UnicodeEncodeError:
        raise InvalidEvent("id or source holds half of a surrogate pair: no Unicode text") from None


def _version(given: Mapping[str, Any]) -> int | None:
    version = given.get("entityversion")
    if version is None:
        return None
    if type(version) is not int or not 1 <= version <= _MAX_VERSION:
        raise InvalidEvent(
            f"entityversion must be a whole number from 1 to {_MAX_VERSION}, not {_shown(version)}"
        )
    if "subject" not in given:
        raise InvalidEvent("entityversion needs a subject: the entity whose version it is")
    return version


def _data(given: Mapping[str, Any]) -> dict[str, Any]:
    if "data_base64" in given:
        raise InvalidEvent("data_base64 can't be kept: data must be a JSON object, or absent")
    data = given.get("data", {})
    if not isinstance(data, dict):
        raise InvalidEvent(f"data must be a JSON object, or absent, not {_kind(data)}")
    return data


def _metadata(given: Mapping[str, Any]) -> dict[str, Any]:
    metadata = _other_metadata(given.get(_OTHER_METADATA))
    for attribute, key in _METADATA_EXTENSIONS.items():
        if isinstance(given.get(attribute), str):
            metadata[key] = given[attribute]
    return metadata


def _other_metadata(text: object) -> dict[str, Any]:
    """What `_derived` wrote there; nothing if it is something else: then it is kept as it came."""
    try:
        metadata = _json.loads(text) if isinstance(text, str) else None
    except InvalidEvent:
        return {}
    return metadata if isinstance(metadata, dict) and _rest(metadata) == metadata else {}


_TIME = re.compile(
    r"(?P<minute>[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}):(?P<second>[0-9]{2})"
    r"(\.(?P<fraction>[0-9]+))?(?P<zone>[Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def _time(given: Mapping[str, Any]) -> datetime | None:
    if "time" not in given:
        return None
    text = given["time"]
    match = _TIME.fullmatch(text) if isinstance(text, str) else None
    try:
        if match is not None:
            return _utc(match)
    except (ValueError, OverflowError):  # the 30th of February, the year 0
        pass
    raise InvalidEvent(
        "time must be an RFC 3339 time with a zone, such as 2026-01-31T12:00:00.000Z, "
        f"not {_shown(text)}"
    )


def _utc(match: re.Match[str]) -> datetime:
    """The moment, to the microsecond; a leap second is the first of the next minute."""
    minute = datetime.fromisoformat(match["minute"].upper() + match["zone"].upper())
    if int(match["second"]) > 60:
        raise ValueError
    microsecond = int((match["fraction"] or "")[:6].ljust(6, "0"))
    moment = minute + timedelta(seconds=int(match["second"]), microseconds=microsecond)
    return moment.astimezone(UTC)


# ---- to a CloudEvent


def _derived(event: Event | RecordedEvent, version: int | None, *, data: object) -> dict[str, Any]:
    """The CloudEvent that an event is, if nothing more is known of it; None: absent."""
    metadata = event.metadata
    rest = _rest(metadata)
    return {
        "specversion": "1.0",
        "id": str(event.id),
        "source": event.source,
        "type": event.type,
        "subject": event.entity_id,
        "time": event.occurred_at and _canonical(event.occurred_at),
        "datacontenttype": "application/json",
        "entityversion": version,
        **{
            attribute: metadata[key]
            for attribute, key in _METADATA_EXTENSIONS.items()
            if isinstance(metadata.get(key), str)
        },
        _OTHER_METADATA: _json.dumps(rest, what=f"metadata of {event.type}") if rest else None,
        "data": data,
    }


def _rest(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata that has no attribute of its own."""
    own = {key for key in _METADATA_EXTENSIONS.values() if isinstance(metadata.get(key), str)}
    if isinstance(metadata.get(KEPT), dict):
        own.add(KEPT)
    return {key: value for key, value in metadata.items() if key not in own}


def _canonical(moment: datetime) -> str:
    """In UTC, with milliseconds, or microseconds if there are any."""
    precision = "microseconds" if moment.microsecond % 1000 else "milliseconds"
    utc = moment.astimezone(UTC).replace(tzinfo=None)
    return f"{utc.isoformat(timespec=precision)}Z"


def _difference(given: Mapping[str, Any], derived: Mapping[str, Any]) -> dict[str, Any]:
    """What the given attributes have other than the derived ones; None: what they have not."""
    different = {
        key: given.get(key)
        for key in {**given, **derived}
        if type(given.get(key)) is not type(derived.get(key)) or given.get(key) != derived.get(key)
    }
    if "time" not in given:
        different["time"] = None  # the store will set one
    return different


def _kind(value: object) -> str:
    """What a decoded value is in JSON."""
    names = {dict: "an object", list: "an array", str: "text", type(None): "null"}
    return names.get(type(value), _shown(value))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
