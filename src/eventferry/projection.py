"""A projection: everything that is known of it before it runs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from eventferry.event import RecordedEvent
from eventferry.handler import Handler

Start = Literal["start", "now"] | int
OnFailure = Literal["stop", "park", "skip"]
"""`stop`: the projection stands still until it is retried. `park`: the event, and the later ones of
its entity, are set aside, in order. `skip`: it is left out, and the audit says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """A named reader of streams: what a table of `projections.toml` says, checked."""

    name: str
    """Unique among the service's projections, producing and consuming."""
    kind: Literal["producing", "consuming"]
    """Producing: a local stream to a shared one. Consuming: streams to a handler."""
    streams: tuple[str, ...]
    """The streams that it reads; a producing one reads exactly one."""
    environment: Literal["local", "shared"]
    """The store that it reads; a producing one reads the local store."""
    shared_stream: str | None = None
    """Producing: the stream of the shared store that the events go to. Consuming: None."""
    handler: Handler | None = None
    """Consuming: what gets the events; None if handlers were not loaded. Producing: None."""
    event_types: frozenset[str] | None = None
    """Consuming: the types that the handler gets; None: all."""
    background: bool = False
    """Whether it is long-running; otherwise it runs on demand."""
    queue: str = "domain-events"
    """Which workers run it on demand."""
    start: Start = "start"
    """Where it begins when it is new; a position: with the first event after it."""
    batch_size: int = 1000
    """The number of events after which a batch ends. `projections.toml` has 5,000 for a producing
    one, unless it says otherwise."""
    batch_time: timedelta = timedelta(seconds=1)
    """The time after which a batch ends."""
    handler_timeout: timedelta = timedelta(seconds=60)
    """Consuming: how long a batch's transaction may sit idle before the server ends it."""
    attempts: int = 5
    """How often a failing event is tried."""
    backoff: timedelta = timedelta(seconds=1)
    """The pause before the second attempt; it doubles from attempt to attempt."""
    backoff_max: timedelta = timedelta(minutes=5)
    """The longest pause between two attempts."""
    on_failure: OnFailure = "stop"
    """What becomes of an event whose last attempt has failed; a producing projection stops."""
    storm: int = 10
    """Consuming: when so many entities fail with the same error within a minute, the projection
    pauses itself instead of setting them all aside."""

    def wants(self, event: RecordedEvent) -> bool:
        """Whether the handler gets the event; its checkpoint moves past the others as well."""
        return self.event_types is None or event.type in self.event_types
