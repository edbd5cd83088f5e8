"""OpenTelemetry: what spans there are, how they are linked, what an event carries of its trace."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import psycopg
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, TraceFlags, TraceState

from eventferry import (
    AsyncContext,
    Context,
    End,
    Event,
    EventIdConflict,
    RecordedEvent,
    tracing,
)
from eventferry.testing import ServiceUnderTest
from tests.blocking import FORMS, SESSIONS, Client, Form, SessionClient
from tests.conftest import MakeDatabase, MakeService
from tests.pages import ROOT
from tests.services import Service, numbered

STREAM = "users-stream"
MAILS = "mails-stream"
GIVEN = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
AT_ONCE = timedelta(0)


class Recorded:
    """The spans that have ended."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(span_limits=SpanLimits(max_links=1000))
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def __call__(self, name: str) -> list[ReadableSpan]:
        """Those of a name, in the order in which they have ended."""
        return [span for span in self._exporter.get_finished_spans() if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self(name)
        return span

    @contextmanager
    def request(self) -> Iterator[trace.Span]:
        """What a framework records around a request."""
        with self.provider.get_tracer("tests").start_as_current_span("request") as span:
            yield span


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """An SDK that is set up for one test alone; `set_tracer_provider` is for good."""
    recorded = Recorded()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", recorded.provider)
    return recorded


@pytest.fixture
def users(make_service: MakeService) -> Service:
    users = make_service()
    users.create_stream(STREAM, MAILS)
    return users


def contexts(span: ReadableSpan) -> list[trace.SpanContext]:
    """Of its links."""
    return [link.context for link in span.links]


def same(one: trace.SpanContext, other: trace.SpanContext | None) -> bool:
    """Whether these are one span, here or in another process."""
    return other is not None and (one.trace_id, one.span_id) == (other.trace_id, other.span_id)


def traceparent(span: ReadableSpan) -> str:
    context = span.get_span_context()
    assert context is not None
    return (
        f"00-{trace.format_trace_id(context.trace_id)}-{trace.format_span_id(context.span_id)}"
        f"-{context.trace_flags:02x}"
    )


def metadata(users: Service, stream: str = STREAM) -> list[dict[str, Any]]:
    return [event.metadata for event in users.local.read(stream)]


# ---- through the stores


def test_links_chain_an_event_up_through_both_stores(
    make_service: MakeService, spans: Recorded
) -> None:
    users, mails = make_service("users"), make_service("mails")
    users.create_stream(STREAM)
    mails.create_stream(MAILS)
    users.producing("users-projection", STREAM)

    def welcome(event: RecordedEvent, context: Context) -> None:
        context.append(MAILS, Event("MailOrdered", entity_id="1"))

    mails.consuming("welcome", welcome, STREAM, environment="shared")
    event = Event("Registered", entity_id="42")
    with spans.request() as request:
        users.append(STREAM, event)
    assert users.run("users-projection").end is End.CAUGHT_UP
    assert mails.run("welcome").end is End.CAUGHT_UP

    appended, ferried = spans.one(f"append {STREAM}"), spans.one(f"ferry {STREAM}")
    handled, ordered = spans.one(f"handle {STREAM}"), spans.one(f"append {MAILS}")
    assert same(request.get_span_context(), appended.parent)
    assert (ferried.parent, handled.parent) == (None, None)
    for span in (ferried, handled):
        (linked,) = contexts(span)
        assert same(linked, appended.get_span_context())
        assert linked.is_remote
    assert same(cast(Any, handled.get_span_context()), ordered.parent)
    (mail,) = mails.local.read(MAILS)
    assert mail.metadata == {
        "correlation_id": str(event.id),
        "causation_id": str(event.id),
        "traceparent": traceparent(ordered),
    }
    kinds = [span.kind for span in (appended, ferried, handled, ordered)]
    assert kinds == [SpanKind.PRODUCER, SpanKind.CLIENT, SpanKind.CONSUMER, SpanKind.PRODUCER]
    assert [dict(span.attributes or {}) for span in (appended, ferried, handled)] == [
        {
            "messaging.system": "eventferry",
            "messaging.operation.name": "append",
            "messaging.operation.type": "send",
            "messaging.destination.name": STREAM,
            "messaging.message.id": str(event.id),
            "eventferry.event.type": "Registered",
        },
        {
            "messaging.system": "eventferry",
            "messaging.operation.name": "ferry",
            "messaging.operation.type": "send",
            "messaging.destination.name": STREAM,
            "messaging.consumer.group.name": "users-projection",
            "messaging.batch.message_count": 1,
        },
        {
            "messaging.system": "eventferry",
            "messaging.operation.name": "handle",
            "messaging.operation.type": "process",
            "messaging.destination.name": STREAM,
            "messaging.consumer.group.name": "welcome",
            "messaging.message.id": str(event.id),
            "messaging.message.conversation_id": str(event.id),
            "eventferry.event.type": "Registered",
            "eventferry.attempt": 1,
            "eventferry.is_replay": True,
            "eventferry.was_parked": False,
        },
    ]


def test_a_page_is_linked_to_the_contexts_of_its_first_events(
    users: Service, spans: Recorded
) -> None:
    for n in range(140):
        users.append(STREAM, [Event("Numbered", {"n": n, "traceparent": GIVEN})] * 1)
    users.append(STREAM, numbered(3))  # one context for all of them
    users.producing("users-projection", STREAM)
    users.run("users-projection")
    pages = spans(f"ferry {STREAM}")
    assert sum((page.attributes or {})["messaging.batch.message_count"] for page in pages) == 143  # type: ignore[misc]
    appended = [span.get_span_context() for span in spans(f"append {STREAM}")]
    linked = contexts(pages[0])
    assert len(linked) == 128
    assert all(same(cast(Any, a), b) for a, b in zip(appended, linked, strict=False))


def test_a_page_that_is_refused_is_an_error(users: Service, spans: Recorded) -> None:
    event = Event("Registered", {"n": 1})
    users.append(STREAM, event)
    users.shared.create_stream(STREAM)
    users.shared.append(STREAM, replace(event, data={"n": 2}))
    users.producing("users-projection", STREAM)
    assert users.run("users-projection").end is End.FAILED
    ferried = spans.one(f"ferry {STREAM}")
    assert ferried.status.status_code is StatusCode.ERROR
    assert (ferried.attributes or {})["error.type"] == "EventIdConflict"
    assert (ferried.attributes or {})["messaging.batch.message_count"] == 0


# ---- what an append adds


@pytest.fixture(params=[*FORMS, *SESSIONS])
def client(request: pytest.FixtureRequest, make_database: MakeDatabase) -> Iterator[Client]:
    form, url = request.param, make_database("local")
    with Client(form, url) if form in FORMS else SessionClient(form, url) as client:
        client.store.create_stream(STREAM)
        yield client


@pytest.mark.parametrize("count", [1, 3])
def test_every_append_says_the_trace_that_it_is_of(
    client: Client, spans: Recorded, count: int
) -> None:
    events = numbered(count, metadata={"by": "test"})
    with spans.request():
        client.store.append(STREAM, events)
    appended = spans.one(f"append {STREAM}")
    found = [event.metadata for event in client.store.read(STREAM)]
    assert found == [{"traceparent": traceparent(appended), "by": "test"}] * count
    assert [event.metadata for event in events] == [{"by": "test"}] * count
    about = appended.attributes or {}
    assert about.get("messaging.batch.message_count") == (None if count == 1 else count)


def test_an_append_is_of_its_callers_trace_before_that_commits(
    client: Client, spans: Recorded
) -> None:
    conn = client.connect()
    client.store.append(STREAM, numbered(2), connection=conn)
    appended = spans.one(f"append {STREAM}")
    conn.commit()
    found = [event.metadata["traceparent"] for event in client.store.read(STREAM)]
    assert found == [traceparent(appended)] * 2


def test_a_trace_that_the_user_gives_stays_and_is_linked(users: Service, spans: Recorded) -> None:
    state = TraceState([("vendor", "here")])
    context = trace.SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1), trace_state=state)
    given = Event("Registered", metadata={"traceparent": GIVEN, "correlation_id": "request-7"})
    with trace.use_span(trace.NonRecordingSpan(context)):
        users.append(STREAM, given)
        users.append(STREAM, Event("Registered"))
    first, second = metadata(users)
    assert first == given.metadata
    assert second["tracestate"] == "vendor=here"
    (linked,) = contexts(spans(f"append {STREAM}")[0])
    assert trace.format_trace_id(linked.trace_id) in GIVEN
    about = spans(f"append {STREAM}")[0].attributes or {}
    assert about["messaging.message.conversation_id"] == "request-7"


def test_an_append_may_be_repeated_in_another_trace(client: Client, spans: Recorded) -> None:
    events = numbered(2, metadata={"by": "test"})
    client.store.append(STREAM, events)
    with spans.request():
        client.store.append(STREAM, events)
    assert len(list(client.store.read(STREAM))) == 2
    for other in ({"by": "another"}, {"by": "test", "traceparent": GIVEN}):
        with pytest.raises(EventIdConflict, match="metadata"):
            client.store.append(STREAM, [replace(event, metadata=other) for event in events])
    failed = spans(f"append {STREAM}")[-1]
    assert failed.status.status_code is StatusCode.ERROR
    assert (failed.attributes or {})["error.type"] == "EventIdConflict"


def test_an_append_may_be_repeated_without_the_sdk(users: Service, spans: Recorded) -> None:
    event = Event("Registered")
    users.append(STREAM, event)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "_TRACER_PROVIDER", None)
        users.append(STREAM, event)
    assert len(metadata(users)) == 1


def test_an_append_of_nothing_has_no_span(users: Service, spans: Recorded) -> None:
    users.append(STREAM, [])
    assert not spans(f"append {STREAM}")


def test_without_an_sdk_metadata_is_what_was_given(users: Service) -> None:
    users.append(STREAM, Event("Registered", metadata={"by": "test"}))
    users.append(STREAM, numbered(2))
    users.consuming("reader", nothing, STREAM)
    assert users.run("reader").handled == 3
    assert metadata(users) == [{"by": "test"}, {}, {}]


def test_a_trace_that_is_only_passed_on_is_passed_on(users: Service) -> None:
    """By a framework that knows the API alone, as the API has it."""
    context = trace.SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(0))
    with trace.use_span(trace.NonRecordingSpan(context)):
        users.append(STREAM, Event("Registered"))
    assert metadata(users) == [{"traceparent": f"00-{1:032x}-{2:016x}-00"}]


# ---- handlers


def nothing(event: RecordedEvent) -> None:
    """A handler without any effect."""


def handler_of(form: Form, handle: Callable[[RecordedEvent, Any], Any]) -> Any:
    """The handler, as `def` or `async def`."""

    async def handle_async(event: RecordedEvent, context: AsyncContext) -> None:
        handle(event, context)

    return handle if form == "sync" else handle_async


@pytest.mark.parametrize("form", FORMS)
def test_a_handlers_spans_are_inside_of_the_one_that_handles(
    users: Service, spans: Recorded, form: Form
) -> None:
    tracer = spans.provider.get_tracer("handler")

    def handle(event: RecordedEvent, context: Any) -> None:
        with tracer.start_as_current_span(f"own {event.data['n']}"):
            pass

    users.consuming("reader", handler_of(form, handle), STREAM)
    users.append(STREAM, numbered(2))
    with spans.request():  # whoever runs it is not its parent
        users.run("reader")
    first, second = spans(f"handle {STREAM}")
    assert (first.parent, second.parent) == (None, None)
    assert same(cast(Any, first.get_span_context()), spans.one("own 1").parent)
    assert same(cast(Any, second.get_span_context()), spans.one("own 2").parent)
    assert first.get_span_context() != second.get_span_context()


@pytest.mark.parametrize("form", FORMS)
def test_what_a_handler_raises_is_in_its_span(users: Service, spans: Recorded, form: Form) -> None:
    def handle(event: RecordedEvent, context: Any) -> None:
        raise LookupError(f"no such user\nDETAIL: {event.data['email']}")

    users.consuming("reader", handler_of(form, handle), STREAM)
    users.append(STREAM, Event("Registered", {"email": "ada@example.org"}))
    assert users.run("reader").end is End.FAILED
    first = spans.one(f"handle {STREAM}")
    assert first.status.status_code is StatusCode.ERROR
    assert first.status.description == "no such user"
    assert (first.attributes or {})["error.type"] == "LookupError"
    (raised,) = first.events
    about = dict(raised.attributes or {})
    assert (raised.name, about["exception.message"]) == ("exception", "no such user")
    assert about["exception.type"] == "LookupError"
    assert "in handle" in str(about["exception.stacktrace"])
    assert "ada@example.org" not in str(about)


def test_a_swallowed_error_and_a_refused_write_are_in_the_span(
    users: Service, spans: Recorded
) -> None:
    def handle(event: RecordedEvent, context: Context) -> None:
        if event.data["n"] == 1:
            context.execute("INSERT INTO nowhere VALUES (%s)", (1,))
            return
        with pytest.raises(psycopg.Error):
            context.connection.execute("SELECT 1 / 0")

    users.consuming("reader", handle, STREAM, on_failure="skip")
    users.append(STREAM, numbered(2))
    users.run("reader")
    errors = [(span.attributes or {}).get("error.type") for span in spans(f"handle {STREAM}")]
    assert {"UndefinedTable", "TransactionLost"} <= set(errors)
    raised = [e.attributes or {} for span in spans(f"handle {STREAM}") for e in span.events]
    types = {about["exception.type"] for about in raised}
    assert {"psycopg.errors.UndefinedTable", "eventferry.errors.TransactionLost"} <= types


def test_attempts_are_counted_and_unparked_events_told(users: Service, spans: Recorded) -> None:
    is_mended = False

    def handle(event: RecordedEvent) -> None:
        if not is_mended:
            raise LookupError("not yet")

    users.consuming("reader", handle, STREAM, on_failure="park", attempts=2, backoff=AT_ONCE)
    users.append(STREAM, Event("Registered", entity_id="42"))
    users.run("reader")
    is_mended = True
    users.control("reader", lambda it: it.unpark())
    about = [span.attributes or {} for span in spans(f"handle {STREAM}")]
    assert [(it["eventferry.attempt"], it["eventferry.was_parked"]) for it in about] == [
        (1, False),
        (2, False),
        (3, True),
    ]


def test_a_batch_is_one_span_with_as_many_links_as_are_kept(
    users: Service, spans: Recorded
) -> None:
    class Bulk:
        def handle(self, event: RecordedEvent) -> None:
            raise AssertionError

        def handle_batch(self, events: list[RecordedEvent]) -> None:
            trace.get_current_span().set_attribute("mine", True)

    users.consuming("reader", Bulk(), STREAM)
    for n in range(130):
        users.append(STREAM, numbered(2, first=n))
    users.run("reader")
    handled = spans.one(f"handle {STREAM}")
    assert handled.parent is None
    assert (handled.attributes or {})["messaging.batch.message_count"] == 260
    assert (handled.attributes or {})["mine"] is True
    assert len({context.span_id for context in contexts(handled)}) == 128


TOO_DEEP = '{"a": ' + "[" * 9000 + "]" * 9000 + "}"


@pytest.mark.parametrize("told", ['{"traceparent": 7}', '{"traceparent": "nonsense"}', TOO_DEEP])
def test_what_any_client_says_of_its_trace_stops_nothing(
    users: Service, spans: Recorded, told: str
) -> None:
    users.execute(
        'INSERT INTO streams."users-stream" (type, metadata) VALUES (%s, %s)', ("Registered", told)
    )
    users.producing("users-projection", STREAM)

    def handle(event: RecordedEvent) -> None:
        users.append(MAILS, Event("Sent"))

    users.consuming("reader", handle, STREAM)
    assert users.run("users-projection").end is End.CAUGHT_UP
    assert users.run("reader").end is End.CAUGHT_UP
    assert contexts(spans.one(f"handle {STREAM}")) == []
    assert contexts(spans.one(f"ferry {STREAM}")) == []
    (event,) = users.local.read(STREAM)
    assert metadata(users, MAILS)[0]["correlation_id"] == str(event.id)


def test_crashes_find_no_difference_in_traces(
    eventferry_service: ServiceUnderTest, spans: Recorded
) -> None:
    def handle(event: RecordedEvent, context: Context) -> None:
        context.append(MAILS, Event("Sent"))

    eventferry_service.create_stream(MAILS)
    eventferry_service.run_with_crashes(handle, numbered(2))


# ---- without


def test_it_need_not_be_installed(users: Service) -> None:
    program = (
        "import sys\n"
        "sys.modules['opentelemetry'] = None\n"
        "from tests.services import Service, numbered\n"
        "users = Service('users', *sys.argv[1:])\n"
        "def handle(event, context):\n"
        "    context.append('mails-stream', numbered(2))\n"
        "users.producing('users-projection', 'users-stream')\n"
        "users.consuming('reader', handle, 'users-stream', environment='shared')\n"
        "users.append('users-stream', numbered(1))\n"
        "assert users.run('users-projection').handled == users.run('reader').handled == 1\n"
        "users.close()\n"
    )
    command = [sys.executable, "-c", program, users.local_url, users.shared_url]
    subprocess.run(command, check=True, cwd=ROOT)
    (event,) = users.local.read(STREAM)
    assert event.metadata == {}
    mails = metadata(users, MAILS)
    assert [set(mail) for mail in mails] == [{"correlation_id", "causation_id"}] * 2


@pytest.mark.parametrize("form", FORMS)
def test_an_sdk_that_is_switched_off_records_nothing(
    users: Service, monkeypatch: pytest.MonkeyPatch, form: Form
) -> None:
    """By `OTEL_SDK_DISABLED`, the SDK's own variable."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", Recorded().provider)
    seen = []

    def handle(event: RecordedEvent, context: Any) -> None:
        seen.append(trace.get_current_span())

    users.consuming("reader", handler_of(form, handle), STREAM)
    users.append(STREAM, numbered(1))
    users.run("reader")
    assert seen == [trace.INVALID_SPAN]
    assert not tracing.is_on()
    assert metadata(users) == [{}]
