"""What is logged of a projection: each turn of it once, with all that one would search for."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import pytest

from eventferry import AsyncContext, Context, Event, RecordedEvent
from tests.services import Service

STREAM = "users-stream"
TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"
SECRET = "ada@example.org"
FIELDS = (
    "projection",
    "attempt",
    "stream",
    "position",
    "event_id",
    "event_type",
    "entity_id",
    "correlation_id",
    "trace_id",
)


@pytest.fixture
def users(loner: Service) -> Service:
    loner.create_stream(STREAM)
    loner.create_effects()
    return loner


def registered(**metadata: Any) -> Event:
    return Event("UserRegistered", {"email": SECRET}, entity_id="42", metadata=metadata)


def fields(record: logging.LogRecord) -> dict[str, Any]:
    return {k: v for k in FIELDS if (v := getattr(record, k, None)) is not None}


def of(event: Event, position: int, **others: Any) -> dict[str, Any]:
    """The fields of a line about an event."""
    return {
        "projection": "reader",
        "attempt": 1,
        "stream": STREAM,
        "position": position,
        "event_id": str(event.id),
        "event_type": event.type,
        "entity_id": event.entity_id,
        "correlation_id": str(event.id),
    } | others


def greet(event: RecordedEvent, context: Context) -> None:
    context.logger.warning("hello %s", "there", extra={"mail": 7})


async def greet_async(event: RecordedEvent, context: AsyncContext) -> None:
    context.logger.warning("hello %s", "there", extra={"mail": 7})


@pytest.mark.parametrize("handler", [greet, greet_async])
def test_a_handlers_lines_carry_the_event(
    users: Service, caplog: pytest.LogCaptureFixture, handler: Any
) -> None:
    traced = registered(correlation_id="order-7", traceparent=TRACEPARENT)
    plain = registered()
    users.append(STREAM, [traced, plain])
    first, second = users.positions(STREAM)

    users.consuming("reader", handler, STREAM)
    users.run("reader")

    lines = [r for r in caplog.records if r.name == "eventferry.projection.reader"]
    assert [(line.getMessage(), vars(line)["mail"]) for line in lines] == [("hello there", 7)] * 2
    assert list(map(fields, lines)) == [
        of(traced, first, correlation_id="order-7", trace_id=TRACE),
        of(plain, second),
    ]
    assert SECRET not in str([vars(line) for line in lines])


def test_the_attempt_counts(users: Service, caplog: pytest.LogCaptureFixture) -> None:
    def handle(event: RecordedEvent, context: Context) -> None:
        context.logger.warning("trying")
        raise ValueError("a bug")

    users.append(STREAM, registered())
    users.consuming("reader", handle, STREAM)
    users.run("reader")
    users.retry()
    users.consuming("reader", handle, STREAM, attempts=2, backoff=users.poll_interval)
    users.run("reader")

    lines = [r for r in caplog.records if r.getMessage() == "trying"]
    assert [fields(line)["attempt"] for line in lines] == [1, 1, 2]


class Batches:
    def handle(self, event: RecordedEvent) -> None:
        pytest.fail("handle_batch is there")

    def handle_batch(self, events: Sequence[RecordedEvent], context: Context) -> None:
        context.logger.warning("%d events", len(events))


def test_a_batchs_lines_carry_what_its_events_have_in_common(
    users: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """Of one alone that is all there is."""
    users.create_stream("orders-stream")
    users.consuming("reader", Batches(), STREAM, "orders-stream")
    events = [registered() for _ in range(5)]

    for stream, batch in ((STREAM, events[:2]), (STREAM, events[2:3])):
        users.append(stream, batch)
        users.run("reader")
    users.append(STREAM, events[3])
    users.append("orders-stream", events[4])
    users.run("reader")

    two, one, mixed = (r for r in caplog.records if r.name == "eventferry.projection.reader")
    assert fields(two) == {"projection": "reader", "attempt": 1, "stream": STREAM}
    assert fields(one) == of(events[2], users.positions(STREAM)[2])
    assert fields(mixed) == {"projection": "reader", "attempt": 1}


@pytest.mark.parametrize(
    "metadata",
    [
        '{"correlation_id": {"a": 1}, "traceparent": 7}',
        '{"traceparent": "00-00000000000000000000000000000000-b7ad6b7169203331-01"}',
        '{"traceparent": "nonsense"}',
        f'{{"a": {"[" * 2000}{"]" * 2000}}}',
    ],
    ids=["other types", "no trace", "no traceparent", "too deep to be read"],
)
def test_logging_is_never_what_fails(
    users: Service, caplog: pytest.LogCaptureFixture, metadata: str
) -> None:
    """Whatever any client has appended."""
    users.execute(
        'INSERT INTO streams."users-stream" (type, metadata) VALUES (%s, %s)',
        ("UserRegistered", metadata),
    )
    users.consuming("reader", greet, STREAM)

    assert users.run("reader").error is None
    (line,) = (fields(r) for r in caplog.records if r.getMessage() == "hello there")
    assert "trace_id" not in line
    assert line.get("correlation_id", line["event_id"]) == line["event_id"]


@pytest.mark.parametrize(
    ("policy", "said"), [("stop", "failed"), ("park", "parks"), ("skip", "skips")]
)
def test_a_failure_is_an_error_once_whatever_becomes_of_it(
    users: Service, caplog: pytest.LogCaptureFixture, policy: str, said: str
) -> None:
    def handle(event: RecordedEvent) -> None:
        raise ValueError(f"no such user\n{event.data['email']}")

    event = registered(correlation_id="order-7", traceparent=TRACEPARENT)
    users.append(STREAM, event)
    users.consuming("reader", handle, STREAM, on_failure=policy)
    users.run("reader")
    users.run("reader")

    told, *again = (r for r in caplog.records if r.levelno == logging.ERROR)
    assert fields(told) == of(
        event, users.positions(STREAM)[0], correlation_id="order-7", trace_id=TRACE
    )
    assert told.getMessage().startswith(f"projection reader {said} ")
    assert "ValueError: no such user" in told.getMessage()
    assert "in handle" in vars(told)["traceback"]
    # another worker finds it so, and says so
    assert [r.getMessage()[:31] for r in again] == (
        ["projection reader stands still:"] if policy == "stop" else []
    )
    assert SECRET not in str([vars(r) for r in caplog.records])


def test_a_storm_is_said_once(users: Service, caplog: pytest.LogCaptureFixture) -> None:
    def handle(event: RecordedEvent) -> None:
        raise ValueError("the other side is down")

    users.append(STREAM, [Event("UserRegistered", entity_id=str(n)) for n in range(3)])
    users.consuming("reader", handle, STREAM, on_failure="park", storm=3)
    users.run("reader")

    errors = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert [message.split()[2] for message in errors] == ["parks", "parks", "pauses"]
    assert "3 entities have failed alike" in errors[-1]
