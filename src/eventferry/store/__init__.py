"""A store: streams of events in a PostgreSQL database.

`EventStore` and `AsyncEventStore` are the same; the first is generated from the second.
"""

from eventferry.store._async import AsyncAppended, AsyncEventStore
from eventferry.store._horizon import Horizon, Stream
from eventferry.store._sync import Appended, EventStore

__all__ = ["Appended", "AsyncAppended", "AsyncEventStore", "EventStore", "Horizon", "Stream"]
