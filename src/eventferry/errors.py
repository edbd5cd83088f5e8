"""Everything that eventferry raises on purpose.

One base class, so that ``except EventFerryError`` catches what is ours and nothing else::

    EventFerryError
    ├── ConfigurationError      projections.toml or the environment is wrong (also ValueError)
    ├── InvalidEvent            an event that no store can keep (also ValueError)
    │   └── EventTooLarge
    ├── MissingData             an event mapper asked for a key that is not there (also KeyError)
    ├── StoreError              a store refused, or is not what it should be
    │   ├── StoreUnavailable    not reachable, wrong password, gone: worth another try
    │   ├── StoreNotMigrated    run `eventferry migrate`
    │   ├── SchemaTooNew        upgrade eventferry
    │   ├── InvalidStreamName   (also ValueError)
    │   ├── UnknownStream
    │   ├── VersionConflict     somebody else appended to the entity first
    │   ├── EventIdConflict     the same id, other content
    │   ├── TransactionRequired an append on a connection that would commit it at once
    │   ├── WrongIsolation      a horizon asked for in a transaction that can't see it
    │   └── HistoryMismatch     the store is not the one that the checkpoint came from
    ├── EmbeddedServerError     the embedded PostgreSQL does not start (in `embedded`)
    └── ProjectionError
        ├── UnknownProjection
        ├── NotHandledYet               waited for, in vain so far (also TimeoutError)
        └── TransactionLost             a handler ended or broke the transaction of its batch

A message says what was expected, what was found, where, and what to do next. No message ever
holds a password: URLs are shown without it.
"""

from __future__ import annotations

from collections.abc import Sequence


class EventFerryError(Exception):
    """The base of all errors that eventferry raises on purpose."""


class ConfigurationError(EventFerryError, ValueError):
    """The configuration is wrong: `projections.toml`, or the environment."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        self.mistakes: tuple[str, ...] = tuple(mistakes)
        """Every mistake, one line each: file, key, what was expected, what came, what to do."""
        super().__init__("\n".join(self.mistakes))


class InvalidEvent(EventFerryError, ValueError):
    """An event that no store can keep: a bad type, data that is not JSON, a naive datetime, …"""


class EventTooLarge(InvalidEvent):
    """An event whose data or metadata is larger than a store accepts."""


class MissingData(EventFerryError, KeyError):
    """An event's data has no such key."""

    def __str__(self) -> str:  # KeyError would show the repr
        return str(self.args[0])


class StoreError(EventFerryError):
    """A store refused what it was asked, or is not what it should be."""


class StoreUnavailable(StoreError):
    """The store can't be reached just now, or does not let us in: worth another try later."""


class StoreNotMigrated(StoreError):
    """The database has no eventferry schema, or one older than this code needs.

    Run `eventferry migrate`.
    """


class SchemaTooNew(StoreError):
    """A later eventferry has changed the schema in a way that this code can't work with.

    Upgrade eventferry.
    """


class InvalidStreamName(StoreError, ValueError):
    """A name that no stream can have; where one is near that a stream can, it is suggested."""


class UnknownStream(StoreError):
    """The store has no stream of this name."""

    def __init__(self, message: str, *, stream: str) -> None:
        self.stream = stream
        """The name that was asked for."""
        super().__init__(message)


class VersionConflict(StoreError):
    """The entity is not at the version that the append expected: somebody else appended to it.

    Read the entity again, decide again, append with its version. The caller's transaction is
    still usable.
    """

    def __init__(self, *, stream: str, entity_id: str, expected: int, actual: int) -> None:
        self.stream = stream
        """The name of the stream."""
        self.entity_id = entity_id
        """The entity's id."""
        self.expected = expected
        """The version that the caller gave."""
        self.actual = actual
        """The entity's newest version; 0: it has none."""
        super().__init__(
            f"entity {entity_id!r} of stream {stream!r} was expected at version {expected}, "
            f"but is at version {actual}: somebody else appended to it. "
            "Read the entity again, decide again, then append with its version"
        )


class EventIdConflict(StoreError):
    """An event with this id, but other content, is in the stream already."""

    def __init__(self, message: str, *, stream: str, event_id: object) -> None:
        self.stream = stream
        """The name of the stream."""
        self.event_id = event_id
        """The id that both have."""
        super().__init__(message)


class TransactionRequired(StoreError):
    """The given connection is idle in autocommit: the append would be committed at once.

    Append inside `with connection.transaction():`, or leave `connection` out.
    """


class WrongIsolation(StoreError):
    """A horizon is only right in READ COMMITTED, where each statement sees what is committed."""


class HistoryMismatch(StoreError):
    """The store, or the stream in it, is not the one that the checkpoint came from.

    A restored backup, a lost standby, a re-created stream, a wrong URL.
    """


class ProjectionError(EventFerryError):
    """A projection can't do what it was asked."""


class UnknownProjection(ProjectionError):
    """The configuration has no projection of this name; or another service has reported none."""


class NotHandledYet(ProjectionError, TimeoutError):
    """A projection has not dealt with events in the time that one has waited for it.

    The events are kept: only the wait is over. The message says where they are.
    """

    def __init__(self, message: str, *, projection: str, service: str) -> None:
        self.projection = projection
        """The projection's name."""
        self.service = service
        """The service that it belongs to."""
        super().__init__(message)


class TransactionLost(ProjectionError):
    """A handler ended the transaction of its batch, or left it aborted."""


UNPARSED = "(a URL that can't be parsed)"


def redacted(url: str) -> str:
    """A store's URL as it may be shown: who, where and which database, and nothing else of it."""
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    try:
        parts = conninfo_to_dict(url)
    except ProgrammingError:
        return UNPARSED
    # Of a password with a / or an @ in it, the rest is taken for a port, a host or a database.
    if not str(parts.get("port") or 0).replace(",", "").isdigit():
        return UNPARSED
    if "@" in f"{parts.get('host')}{parts.get('dbname')}":
        return UNPARSED
    user = f"{parts['user']}@" if parts.get("user") else ""
    port = f":{parts['port']}" if parts.get("port") else ""
    return f"postgresql://{user}{parts.get('host', '')}{port}/{parts.get('dbname', '')}"
