"""A service under test: fresh stores on a real PostgreSQL, its configuration, its handlers.

What runs is what runs in production: `Worker` and the engine below it. What differs is said here:
a failing handler is tried once, and its exception is the test's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from eventferry.config import Config
from eventferry.config_file import nearest
from eventferry.ended import End, Ended
from eventferry.errors import ConfigurationError, UnknownStream
from eventferry.event import Event, RecordedEvent
from eventferry.handler import Handler, handler_of, load_handler
from eventferry.program import chosen
from eventferry.projection import Projection
from eventferry.store import EventStore
from eventferry.testing.databases import Databases
from eventferry.testing.execution import Raised, failure_of, once, run, until_idle
from eventferry.testing.scenario import (
    Environment,
    Given,
    Scenario,
    flat,
    require_same,
)
from eventferry.testing.stores import Stores

STREAM = "events-stream"
"""What a handler reads that is none of the configuration's, unless the test names a stream."""
SOURCE = "another-service"
"""Where an event of the shared store has happened, unless it says so."""

NO_CONFIGURATION = (
    "there is no projections.toml, and no pyproject.toml with [tool.eventferry], between the "
    "folder of the test and pytest's rootdir. Write one, or name it in pytest's configuration: "
    "eventferry_config = path/to/projections.toml"
)


class ServiceUnderTest:
    """A service with stores of its own, for one test; the fixture `eventferry_service`.

    Its methods block, in async tests too: handlers run on a loop of their own.
    """

    def __init__(self, stores: Stores, databases: Databases, file: Path | None) -> None:
        self.local_url: str = stores.local
        """The database of its local store, with the service's own tables."""
        self.shared_url: str = stores.shared
        """The database of its shared store."""
        self.local: EventStore = EventStore(stores.local)
        """Its local store."""
        self.shared: EventStore = EventStore(stores.shared)
        """The shared store."""
        self._stores = stores
        self._databases = databases
        self._file = file
        self._plain = stores.config(file)
        self._loaded: Config | None = None
        self._numbers = count(1)
        self._own: dict[tuple[str, str], set[Any]] = {}
        """The ids of the events that the test has appended, by environment and stream."""
        self._failure: BaseException | None = None
        """What a handler has raised, and nobody has asked for."""

    @property
    def name(self) -> str:
        """Its name: the configuration's, if there is one."""
        return self._plain.service

    @property
    def config(self) -> Config:
        """The project's configuration, on the stores of this test, for the rest of eventferry:
        `run_projection(name, service.config)`.

        Raises:
            ConfigurationError: there is none, or it is wrong.
        """
        if self._file is None:
            raise ConfigurationError([NO_CONFIGURATION])
        if self._loaded is None:
            loaded = self._stores.config(self._file, import_handlers=True)
            _require_own_modules(loaded)
            self._loaded = loaded
        return self._loaded

    def create_stream(self, *names: str, environment: Environment = "local") -> None:
        """Creates streams that are not there yet. Those that the configuration reads are."""
        for name in names:
            self._store(environment).create_stream(name)

    def append(
        self,
        stream: str,
        *events: Event | Iterable[Event],
        environment: Environment = "local",
        expected_version: int | None = None,
    ) -> None:
        """Appends events, in one transaction, and creates the stream if it is not there.

        Args:
            stream: Its name.
            events: One event or many.
            environment: `shared` for what other services say; their events happened in
                `another-service`, unless they name their `source`.
            expected_version: As in `EventStore.append`.
        """
        given = flat(events)
        if environment == "shared":
            given = tuple(replace(e, source=e.source or SOURCE) for e in given)
        self.create_stream(stream, environment=environment)
        self._store(environment).append(stream, given, expected_version=expected_version)
        self._own.setdefault((environment, stream), set()).update(e.id for e in given)

    def events(self, stream: str, environment: Environment = "local") -> list[RecordedEvent]:
        """All events of a stream.

        Raises:
            UnknownStream: there is no such stream.
        """
        return list(self._store(environment).read(stream))

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection to the local store, in a transaction that commits when the block ends.

        Raises:
            Exception: what a handler has raised, if nobody has asked for it.
        """
        self._raise_failure()
        with psycopg.connect(self.local_url) as conn:
            yield conn

    def given(
        self,
        *events: Event | Iterable[Event],
        stream: str | None = None,
        environment: Environment | None = None,
        expected_version: int | None = None,
    ) -> Scenario:
        """Begins a test of a handler: `given(events).when_handled_by(handler).then(…)`.

        As `Scenario.given`.
        """
        return Scenario(self).given(
            *events, stream=stream, environment=environment, expected_version=expected_version
        )

    def run_until_idle(self) -> dict[str, Ended]:
        """Runs all projections of the configuration, also the long-running ones, until no one has
        anything to do. Each event is tried once, whatever the configuration says.

        Returns:
            How each one's last run ended, with the number of events that all its runs handled.

        Raises:
            Exception: what a handler has raised.
            AssertionError: a projection has failed for another reason.
            ConfigurationError: there is no configuration, or it is wrong.
        """
        __tracebackhide__ = True
        self._raise_failure()
        config = self.config
        ended = self._run(config, chosen(config, background=True))
        self._raise_failure()
        return ended

    def assert_appended(
        self, stream: str, *events: Event | Iterable[Event], environment: Environment = "local"
    ) -> None:
        """Requires that the service has appended exactly these events to a stream, in this order.

        What the test itself has appended there does not count. Types and data are compared;
        `entity_id` and `source` where an expected event has one; of its metadata, the keys that
        are given.

        Args:
            stream: Its name.
            events: The expected ones; none: nothing has been appended.
            environment: In which store the stream is.

        Raises:
            AssertionError: there are others, with the difference.
            Exception: what a handler has raised, if nobody has asked for it.
        """
        __tracebackhide__ = True
        self._raise_failure()
        own = self._own.get((environment, stream), set())
        try:
            found = [e for e in self.events(stream, environment) if e.id not in own]
        except UnknownStream:
            found = []
        require_same(found, flat(events), f"{stream} of the {environment} store")

    def run_with_crashes(
        self,
        handler: Any,
        events: Event | Iterable[Event],
        *,
        stream: str | None = None,
        environment: Environment | None = None,
        effects: str | Callable[[], Iterable[Any]] | None = None,
    ) -> None:
        """Kills the handler's process around each event, and requires that no effect is doubled
        or lost.

        Before the first event, after the handler has returned for an event and before its commit,
        and after this commit: at each of these points, a process that runs the projection on a
        fresh copy of the database ends by SIGKILL, and another one goes on. In the end the effects
        must be those of a run that nothing has disturbed. Each event is a batch of its own; if the
        handler has `handle_batch`, all of them in one are tried too.

        Afterwards the events are in the stream, and not handled. Needs a POSIX system.

        Args:
            handler: As for `Scenario.when_handled_by`.
            events: What it is given.
            stream: As for `Scenario.given`.
            environment: As for `Scenario.given`.
            effects: What is compared. None: what all of the service's tables and local streams
                hold, in any order, without the columns that PostgreSQL fills differently each time
                (identities, times, random values) and those that refer to them. Or a query of the
                local store. Or, for effects outside of the database, a function that returns what
                has happened since it was called last, and forgets it.

        Raises:
            AssertionError: an effect is doubled, lost or changed, with the point and the event; or
                the handler fails.
        """
        __tracebackhide__ = True
        from eventferry.testing.crash import Crashes

        self._raise_failure()
        given = [Given(flat([events]), stream, environment, None)]
        projection = self._projection(handler, given)
        types = projection.event_types
        wanted = [e for e in given[0].events if types is None or e.type in types]
        if not wanted:
            raise ValueError("there is no event that the handler gets: give some of its types")
        self._begin(projection)
        self._append(projection, given)
        self._close()
        named = [
            f"event {number} ({event.type} {event.id})"
            for number, event in enumerate(wanted, start=1)
        ]
        Crashes(self._plain, projection, self._databases, effects, named).run()

    def _handle(self, handler: Any, given: Sequence[Given]) -> None:
        """Appends what is given and runs the handler, whose failure it keeps for `_claim_failure`.

        Raises:
            ConfigurationError, UnknownProjection: it is no handler.
        """
        self._raise_failure()
        projection = self._projection(handler, given)
        self._begin(projection)
        self._append(projection, given)
        self._run(self._plain, [projection])

    def _claim_failure(self) -> BaseException | None:
        """What a handler has raised since the last call; nobody else raises it then."""
        failure, self._failure = self._failure, None
        return failure

    def _raise_failure(self) -> None:
        """Raises what a handler has raised, if nobody has claimed it."""
        __tracebackhide__ = True
        if failure := self._claim_failure():
            raise failure

    def _close(self) -> None:
        """Closes the connections of its stores; they come back when they are needed."""
        self.local.close()
        self.shared.close()

    def _store(self, environment: Environment) -> EventStore:
        return self.local if environment == "local" else self.shared

    def _projection(self, handler: Any, given: Sequence[Given]) -> Projection:
        """The configuration's projection of this name, or one that reads what is given."""
        if isinstance(handler, str) and ":" not in handler:
            (projection,) = chosen(self.config, [handler])
            if projection.handler is None:
                raise ConfigurationError(
                    [f"{handler} is a producing projection; run_until_idle() runs these"]
                )
            return projection
        environments = {g.environment or "local" for g in given} or {"local"}
        if len(environments) > 1:
            raise ValueError(
                "events are given in both stores, but a projection reads one of them: name a "
                "projection of the configuration, or append() those that the handler does not get"
            )
        streams = dict.fromkeys(g.stream or STREAM for g in given) or (STREAM,)
        return Projection(
            name=f"scenario-{next(self._numbers)}",
            kind="consuming",
            streams=tuple(streams),
            environment=environments.pop(),
            handler=self._handler(handler),
            start="now",
        )

    def _handler(self, handler: Any) -> Handler:
        if not isinstance(handler, str):
            return handler_of(handler, getattr(handler, "__qualname__", type(handler).__qualname__))
        if self._file is not None and (folder := str(self._file.parent)) not in sys.path:
            sys.path.insert(0, folder)  # as `load` does
        return load_handler(handler)

    def _begin(self, projection: Projection) -> None:
        """So that it is known before the events come, and they are no replay."""
        self.create_stream(*projection.streams, environment=projection.environment)
        self._run(self._plain, [projection])

    def _append(self, projection: Projection, given: Sequence[Given]) -> None:
        places = [
            (one.stream or self._only(projection), one.environment or projection.environment)
            for one in given
        ]
        if self.local_url != self.shared_url:  # else both environments are the same one
            _require_read(projection, places)
        for one, (stream, where) in zip(given, places, strict=True):
            self.append(
                stream, one.events, environment=where, expected_version=one.expected_version
            )

    def _only(self, projection: Projection) -> str:
        """The stream of events that are given without one."""
        if STREAM in projection.streams:
            return STREAM
        if len(projection.streams) > 1:
            raise ValueError(
                f"{projection.name} reads {', '.join(projection.streams)}: say in which one the "
                "events are given: given(…, stream=…)"
            )
        return projection.streams[0]

    def _run(self, config: Config, projections: Sequence[Projection]) -> dict[str, Ended]:
        raised: dict[str, Raised] = {}
        tried = [once(p, partial(raised.__setitem__, p.name)) for p in projections]
        ended = run(until_idle(config, tried))
        for name, end in ended.items():
            if end.end is End.FAILED:
                self._failure = failure_of(end, raised.get(name))
                break
        return ended


def _require_read(projection: Projection, places: Collection[tuple[str, str]]) -> None:
    """Refuses streams and environments of which the projection gets nothing."""
    reads = [(stream, projection.environment) for stream in projection.streams]
    if places and set(places).isdisjoint(reads):
        raise ValueError(
            f"{projection.name} reads {_named(reads)}, and gets nothing of what is given in "
            f"{_named(places)}: leave out stream= and environment=, or correct them"
        )


def _named(places: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{stream} of the {where} store" for stream, where in places)


def _require_own_modules(config: Config) -> None:
    """Refuses handlers of another service, whose module of the same name was imported first."""
    for handler in filter(None, (p.handler for p in config.projections.values())):
        name = handler.reference.partition(":")[0]
        own = config.folder.joinpath(*name.split(".")).with_suffix(".py")
        found = Path(sys.modules[name].__file__ or own)
        is_own = not own.exists() or own.samefile(found)
        if not is_own and nearest(found.parent) not in (None, config.path):
            mistake = (
                f"module {name} is {found} in this process, and not {own}, as another service's "
                "tests have imported theirs first: run pytest in each service's folder, or give "
                "their modules names of their own"
            )
            raise ConfigurationError([mistake])
