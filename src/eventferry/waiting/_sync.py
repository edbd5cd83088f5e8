# Generated from src/eventferry/waiting/_async.py by tools/async_to_sync.py; do not edit.
"""Waits until a projection has dealt with events.

    committed? ──> in the store that it reads? ──> dealt with? ──> done
                        ferried meanwhile            │
                                                     ├─ one of our own: its checkpoint says so
                                                     └─ another service's: its checkpoint is in a
                                                        database that we can't reach, so we ask in
                                                        the shared store, and a worker answers

Its connections are its own, and closed when it is over. It looks with growing pauses, and holds
nothing between two looks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import psycopg
from psycopg import Connection
from psycopg.rows import class_row

from eventferry import sql
from eventferry._uuid import uuid7
from eventferry.config import Config, load
from eventferry.connection import CONNECT_TIMEOUT_S, options, shown, translated
from eventferry.errors import NotHandledYet, StoreError, UnknownStream
from eventferry.projection import Projection
from eventferry.waiting._place import (
    Answer,
    Patience,
    Place,
    Waitable,
    ids_by_stream,
    sleep,
    to_arrive,
)
from eventferry.waiting._whereabouts import (
    Reported,
    Search,
    require_consuming,
    unknown,
    whereabouts,
)


def wait_until_handled(
    appended: Waitable | Iterable[Waitable],
    *,
    projection: str,
    service: str | None = None,
    timeout: float = 5.0,
    config: Config | Path | str | None = None,
) -> None:
    """Waits until a projection has dealt with the events, to read what it has written of them.

    It has when its checkpoint is past them and none of them is parked; events that its handler
    does not want, or that somebody has skipped, count as dealt with. The append must be committed.

    Args:
        appended: What `append` returned, a recorded event, or several of these.
        projection: The projection's name.
        service: The service that it belongs to: another one of those that use the shared store,
            of which a worker answers; None: this one.
        timeout: Seconds, after which it gives up; 0: it looks once.
        config: The configuration of this service, or its file; None: found as the command line
            finds it. Who waits often loads it once.

    Raises:
        NotHandledYet: they are not dealt with in time (also TimeoutError); it says where they are.
        UnknownProjection: the service has no such projection, or there is no such service.
        ProjectionError: the projection never gets these events.
        StoreError: the append is not committed, or was rolled back; or a privilege is missing.
        StoreUnavailable: a store can't be reached.
        ConfigurationError: the configuration is wrong; with all mistakes.
    """
    patience = Patience(timeout)
    configuration = config if isinstance(config, Config) else load(config, import_handlers=False)
    events = ids_by_stream(appended)
    with _Wait(configuration, projection, events, patience) as wait:
        if service in (None, configuration.service):
            wait.for_own(configuration.named([projection])[0])
        else:
            wait.for_other(str(service))


@dataclass(slots=True)
class _Wait:
    """One wait, with its connections."""

    config: Config
    projection: str
    events: Mapping[str, list[UUID]]
    """Their ids, by the stream that they were appended to."""
    patience: Patience
    _stack: ExitStack = field(default_factory=ExitStack)
    _connections: dict[str, Connection[Any]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def for_own(self, projection: Projection) -> None:
        """Waits for a projection of the service itself."""
        whose = f"projection {self.projection!r}"
        places = self._arrived(whose, projection.environment, projection.streams)
        kept_in = "shared" if projection.kind == "producing" else "local"
        search = Search(whose, self.projection, arrived=True)
        self._until_all_handled(places, kept_in, search)

    def for_other(self, service: str) -> None:
        """Waits for a projection of another service."""
        whose = f"projection {self.projection!r} of service {service!r}"
        reported = self._reported(service)
        require_consuming(whose, reported)
        places = self._arrived(whose, "shared", reported.streams, service=service)
        search = Search(whose, self.projection, service=service, arrived=True)
        self._until_answered(places, search)

    def _arrived(
        self, whose: str, environment: str, streams: Sequence[str], service: str | None = None
    ) -> list[Place]:
        """Where the projection reads the events; waits until they are there."""
        wanted = to_arrive(
            self.config, self.events, whose=whose, environment=environment, streams=streams
        )
        is_committed = False
        while True:
            found = [self._locate(environment, s, ids) for s, ids in wanted.items()]
            places = [place for place in found if place is not None]
            if len(places) == len(found):
                self.patience.again()
                return places
            if not is_committed:
                self._require_committed()
                is_committed = True
            self._pause(Search(whose, self.projection, service=service))

    def _require_committed(self) -> None:
        """Refuses events that are in no stream of ours: they would never be handled."""
        for stream, ids in self.events.items():
            place = self._locate("local", stream, ids)
            place = place or self._locate("shared", stream, ids)
            if place is None:
                raise StoreError(
                    f"stream {stream!r} does not have all of these events: the transaction that "
                    "appended them is not committed yet, or was rolled back. Commit it, then wait"
                )

    def _until_all_handled(self, places: Sequence[Place], kept_in: str, search: Search) -> None:
        conn = self._connection(kept_in)
        whose = self.config.service, self.projection
        while True:
            with translated(self._shown(kept_in)):
                answers = [
                    answer(conn, *whose, place, parks=kept_in == "local") for place in places
                ]
            if all(a == "handled" for a in answers):
                return
            self._pause(search.answered(answers))

    def _until_answered(self, places: Sequence[Place], search: Search) -> None:
        conn, id_ = self._connection("shared"), uuid7()
        about = id_, search.service, self.projection
        with translated(self._shown("shared")):
            try:
                with conn.transaction():
                    for p in places:
                        asked = *about, p.stream, p.position, list(p.ids), self.patience.left_s
                        conn.execute(sql.query("put_wait"), asked)
                    conn.execute(sql.query("ask_waits"), (search.service,))
                while True:
                    cursor = conn.execute(sql.query("answers"), (id_,))
                    answers = [row[0] for row in cursor.fetchall()]
                    if len(answers) == len(places) and all(a == "handled" for a in answers):
                        return
                    self._pause(search.answered(answers))
            finally:
                with suppress(psycopg.Error):  # it grows old, and the next one forgets it
                    conn.execute(sql.query("end_wait"), (id_,))

    def _pause(self, search: Search) -> None:
        """Sleeps until the next look.

        Raises:
            NotHandledYet: the time is up.
        """
        if not self.patience.left_s:
            where = whereabouts(self.config, self.events, search)
            raise NotHandledYet(
                f"{search.whose} has not dealt with {_counted(self.events)} within "
                f"{self.patience.timeout_s:g} s: {where}",
                projection=self.projection,
                service=search.service or self.config.service,
            )
        sleep(self.patience.pause_s())

    def _locate(self, environment: str, stream: str, ids: Sequence[UUID]) -> Place | None:
        """Where the events are in a stream; None: they are not all there."""
        conn = self._connection(environment)
        try:
            with translated(self._shown(environment)):
                cursor = conn.execute(sql.on_stream("locate", stream), (stream, list(ids)))
        except UnknownStream:  # the first run of a ferry makes it
            return None
        count, position, store, incarnation = cursor.fetchone() or (0, 0, None, None)
        if count < len(ids) or store is None or incarnation is None:
            return None
        return Place(
            stream=stream, position=position, ids=ids, store=store, incarnation=incarnation
        )

    def _reported(self, service: str) -> Reported:
        """What another service says of the projection.

        Raises:
            UnknownProjection: it says nothing.
        """
        conn = self._connection("shared")
        with translated(self._shown("shared")):
            with conn.cursor(row_factory=class_row(Reported)) as cursor:
                cursor.execute(sql.query("reported"), (service, self.projection))
                if (found := cursor.fetchone()) is not None:
                    return found
            every = conn.execute(sql.query("reporting"))
            raise unknown(service, self.projection, dict(every.fetchall()))

    def _connection(self, environment: str) -> Connection[Any]:
        if self.config.same_database:
            environment = "local"
        if environment not in self._connections:
            arguments = options("wait")
            arguments["connect_timeout"] = min(
                CONNECT_TIMEOUT_S, max(2, ceil(self.patience.left_s))
            )
            with translated(self._shown(environment)):
                conn = Connection.connect(self._url(environment), **arguments)
            self._connections[environment] = self._stack.enter_context(conn)
        return self._connections[environment]

    def _url(self, environment: str) -> str:
        return self.config.local_url if environment == "local" else self.config.shared_url

    def _shown(self, environment: str) -> str:
        return shown(self._url(environment), environment)


def answer(
    conn: Connection[Any], service: str, projection: str, place: Place, *, parks: bool
) -> Answer | None:
    """Whether the projection has got past the events, and what has become of them; None: no.

    Args:
        conn: To the store that has its checkpoint.
        service: Whose it is.
        projection: Its name.
        place: Where the events are.
        parks: Whether it may park events: producing ones don't, and have no such table to read.
    """
    at = place.stream, place.store, place.incarnation, place.position
    cursor = conn.execute(sql.query("is_past"), (service, projection, *at))
    (is_past,) = cursor.fetchone() or (False,)
    if not is_past:
        return None
    if not parks:
        return "handled"
    # after the checkpoint: both change in one transaction
    which = projection, place.stream, list(place.ids)
    cursor = conn.execute(sql.query("are_parked"), which)
    (are_parked,) = cursor.fetchone() or (False,)
    return "parked" if are_parked else "handled"


def _counted(events: Mapping[str, list[UUID]]) -> str:
    ids = [id_ for ids in events.values() for id_ in ids]
    return f"event {ids[0]}" if len(ids) == 1 else f"{len(ids)} events, the last of them {ids[-1]}"
