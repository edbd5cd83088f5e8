"""What `eventferry` exports. To import it takes longer than to complete a word in a shell."""

from eventferry.config import Config, load
from eventferry.ended import End, Ended
from eventferry.engine.context._async import AsyncContext
from eventferry.engine.context._sync import Context
from eventferry.errors import (
    ConfigurationError,
    EventFerryError,
    EventIdConflict,
    EventTooLarge,
    HistoryMismatch,
    InvalidEvent,
    InvalidStreamName,
    MissingData,
    NotHandledYet,
    ProjectionError,
    SchemaTooNew,
    StoreError,
    StoreNotMigrated,
    StoreUnavailable,
    TransactionLost,
    TransactionRequired,
    UnknownProjection,
    UnknownStream,
    VersionConflict,
    WrongIsolation,
)
from eventferry.event import Event, EventMapper, RecordedEvent
from eventferry.handler import Handler
from eventferry.migration import migrate
from eventferry.program import run_projection, run_worker
from eventferry.projection import Projection
from eventferry.store import (
    Appended,
    AsyncAppended,
    AsyncEventStore,
    EventStore,
    Horizon,
    Stream,
)
from eventferry.timing import Timing
from eventferry.waiting import async_wait_until_handled, wait_until_handled

__all__ = [
    "Appended",
    "AsyncAppended",
    "AsyncContext",
    "AsyncEventStore",
    "Config",
    "ConfigurationError",
    "Context",
    "End",
    "Ended",
    "Event",
    "EventFerryError",
    "EventIdConflict",
    "EventMapper",
    "EventStore",
    "EventTooLarge",
    "Handler",
    "HistoryMismatch",
    "Horizon",
    "InvalidEvent",
    "InvalidStreamName",
    "MissingData",
    "NotHandledYet",
    "Projection",
    "ProjectionError",
    "RecordedEvent",
    "SchemaTooNew",
    "StoreError",
    "StoreNotMigrated",
    "StoreUnavailable",
    "Stream",
    "Timing",
    "TransactionLost",
    "TransactionRequired",
    "UnknownProjection",
    "UnknownStream",
    "VersionConflict",
    "WrongIsolation",
    "async_wait_until_handled",
    "load",
    "migrate",
    "run_projection",
    "run_worker",
    "wait_until_handled",
]
