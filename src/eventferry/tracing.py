"""Traces: what OpenTelemetry is told of appends, ferries and handlers, where a program uses it.

Owns all that knows of OpenTelemetry (the extra `otel`), and by which event another one is caused.
Spans of ferries and handlers are linked to the contexts that events carry in their metadata, and
are never their children: an event is handled by many, in batches, perhaps a year later
(docs/adr/0017).

Where OpenTelemetry is not installed, or no SDK is set up, there are no spans, and a batch finds
that out once. No span says what is in an event: traces go further than the databases, as logs do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from functools import lru_cache
from importlib.metadata import version
from itertools import islice
from typing import Any, Protocol

from eventferry import _json, logline
from eventferry.errors import InvalidEvent
from eventferry.event import Event, RecordedEvent, chained

try:
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:
    IS_INSTALLED = False
else:
    IS_INSTALLED = True
    _W3C = TraceContextTextMapPropagator()

MAX_LINKS = 128
"""What an SDK keeps of a span's links, unless it is told otherwise."""


class Handling(Protocol):
    """What is known of a call of a handler: its context has it."""

    _event: RecordedEvent | None

    @property
    def projection(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def is_replay(self) -> bool: ...


handled: ContextVar[RecordedEvent | Handling | None] = ContextVar(
    "eventferry_handled", default=None
)
"""What the handler around is handling: the cause of what is appended meanwhile. The context of a
`def` handler says that, as to set this for each event takes as long as the rest of a short call."""


def appending(stream: str, events: Sequence[Event]) -> AbstractContextManager[Mapping[str, Any]]:
    """The span of an append; gives what the metadata of its events says beside their own."""
    found = handled.get()
    cause = found if isinstance(found, RecordedEvent | None) else found._event
    added = {} if cause is None else chained(cause)
    tracer = _tracer()
    if tracer is None or not events:
        return nullcontext(_placed(added))
    return _appending(tracer, stream, events, added)


@contextmanager
def _appending(
    tracer: Any, stream: str, events: Sequence[Event], added: dict[str, Any]
) -> Iterator[Mapping[str, Any]]:
    given = _links(event.metadata for event in events)  # contexts that the user has put in there
    attributes = _of_batch(len(events))
    if len(events) == 1:
        (event,) = events
        correlation = {**added, **event.metadata}.get("correlation_id")
        attributes = _of_event(event, correlation)
    kind = trace.SpanKind.PRODUCER
    with _span(tracer, "append", "send", stream, kind=kind, attributes=attributes, links=given):
        yield _placed(added)


def _placed(added: dict[str, Any]) -> Mapping[str, Any]:
    """The same with the current trace context, if there is one."""
    if IS_INSTALLED:
        _W3C.inject(added)
    return added


def is_on() -> bool:
    """Whether there is an SDK that may record spans."""
    return _tracer() is not None


def handling(
    event: RecordedEvent, context: Handling, *, was_parked: bool
) -> AbstractContextManager[Any]:
    """The span of a call of a handler; only where it is on."""
    about = _of_event(event, logline.ties(event).get("correlation_id"))
    return _handling([event], about, context, was_parked)


def handling_batch(
    events: Sequence[RecordedEvent], context: Handling, *, was_parked: bool
) -> AbstractContextManager[Any]:
    """The span of a call of `handle_batch`."""
    if not is_on():
        return nullcontext()
    return _handling(events, _of_batch(len(events)), context, was_parked)


def _handling(
    events: Sequence[RecordedEvent],
    about: Mapping[str, Any],
    context: Handling,
    was_parked: bool,
) -> AbstractContextManager[Any]:
    streams = {event.stream for event in events}
    return _span(
        _tracer(),
        "handle",
        "process",
        streams.pop() if len(streams) == 1 else None,
        kind=trace.SpanKind.CONSUMER,
        attributes={
            **about,
            "messaging.consumer.group.name": context.projection,
            "eventferry.attempt": context.attempt,
            "eventferry.is_replay": context.is_replay,
            "eventferry.was_parked": was_parked,
        },
        links=_links(_decoded(event.metadata_json for event in events)),
        context=Context(),
    )


def ferrying(
    projection: str, stream: str, metadata: Iterable[bytes]
) -> AbstractContextManager[Any]:
    """The span of a page that is ferried, linked to the contexts of its first events."""
    tracer = _tracer()
    if tracer is None:
        return nullcontext()
    return _span(
        tracer,
        "ferry",
        "send",
        stream,
        kind=trace.SpanKind.CLIENT,  # the events have their contexts from elsewhere
        attributes={"messaging.consumer.group.name": projection},
        links=_links(_decoded(islice(metadata, MAX_LINKS))),
        context=Context(),
    )


def ferried(span: Any, count: int, failure: tuple[str, str] | None = None) -> None:
    """What has become of a page: how many events were ferried, or the error's type and its text."""
    if span is not None:
        span.set_attributes(_of_batch(count))
        if failure is not None:
            _failed(span, *failure)


@contextmanager
def _span(
    tracer: Any,
    operation: str,
    type_: str,
    stream: str | None,
    *,
    kind: trace.SpanKind,
    attributes: Mapping[str, Any],
    links: Sequence[trace.Link],
    context: Context | None = None,
) -> Iterator[Any]:
    """A span that is the current one inside; without a `context`, a child of the one around."""
    known = {
        "messaging.system": "eventferry",
        "messaging.operation.name": operation,
        "messaging.operation.type": type_,
        **({} if stream is None else {"messaging.destination.name": stream}),
        **attributes,
    }
    name = operation if stream is None else f"{operation} {stream}"
    span = tracer.start_span(name, context, kind, known, links)
    with trace.use_span(
        span, end_on_exit=True, record_exception=False, set_status_on_exception=False
    ):
        try:
            yield span
        except BaseException as error:  # a handler may raise anything
            if span.is_recording():
                name, text = type(error).__qualname__, logline.first_line(logline.text_of(error))
                module = type(error).__module__
                said = {
                    "type": name if module == "builtins" else f"{module}.{name}",
                    "message": text,
                    "stacktrace": logline.trace(error),
                }
                span.add_event("exception", {f"exception.{key}": said[key] for key in said})
                _failed(span, name, text)
            raise


def _failed(span: Any, error_type: str, error: str) -> None:
    span.set_attribute("error.type", error_type)
    span.set_status(trace.Status(trace.StatusCode.ERROR, error))


def _of_event(event: Event | RecordedEvent, correlation: object) -> dict[str, Any]:
    known = {"messaging.message.id": str(event.id), "eventferry.event.type": event.type}
    if isinstance(correlation, str):
        known["messaging.message.conversation_id"] = correlation
    return known


def _of_batch(count: int) -> dict[str, Any]:
    return {"messaging.batch.message_count": count}


def _links(metadata: Iterable[Mapping[str, Any]]) -> list[trace.Link]:
    """To the contexts that are in there, each once, and no more than are kept."""
    found: dict[tuple[int, int], trace.Link] = {}
    for one in metadata:
        if "traceparent" in one:
            carrier = {key: one[key] for key in _W3C.fields if isinstance(one.get(key), str)}
            span = trace.get_current_span(_W3C.extract(carrier, Context()))
            context = span.get_span_context()
            if context.is_valid:
                found[context.trace_id, context.span_id] = trace.Link(context)
        if len(found) == MAX_LINKS:
            break
    return list(found.values())


def _decoded(texts: Iterable[str | bytes]) -> Iterator[Mapping[str, Any]]:
    for text in texts:
        with suppress(InvalidEvent):  # any client may append; traces must not be what fails
            yield _json.loads(text)


def _tracer() -> Any:
    """Ours; None: nobody would record its spans."""
    return _tracer_of(trace.get_tracer_provider()) if IS_INSTALLED else None


@lru_cache(maxsize=1)
def _tracer_of(provider: Any) -> Any:
    if isinstance(provider, trace.ProxyTracerProvider):  # stands for one that is not set up
        return None
    tracer = provider.get_tracer("eventferry", version("eventferry"))
    return None if isinstance(tracer, trace.NoOpTracer) else tracer
