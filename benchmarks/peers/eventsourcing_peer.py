"""eventsourcing: `Application.save` of domain events, and a `ProjectionRunner` with tracking."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

from eventsourcing.application import Application
from eventsourcing.dispatch import singledispatchmethod
from eventsourcing.domain import DomainEvent
from eventsourcing.persistence import IntegrityError, Tracking
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner

from benchmarks.peers import bare_psycopg
from benchmarks.peers.serving import OPEN_S, ROLLED_BACK, Answer, Purpose, Step, in_threads, serve

EFFECT = bare_psycopg.EFFECT.format("effects")


class UserRegistered(DomainEvent):
    data: dict[str, Any]
    metadata: dict[str, Any]


class Users(Application):
    """The application, with everything as it comes."""

    name = "users"


class View(PostgresTrackingRecorder):
    """A materialised view whose rows commit together with the tracking record."""

    def add(self, event: UserRegistered, tracking: Tracking) -> None:
        row = (str(tracking.notification_id), str(event.originator_id), type(event).__name__)
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            cursor.execute(EFFECT, row, prepare=True)


class Effects(Projection[View]):
    name = "effects"

    @singledispatchmethod
    def process_event(self, domain_event: Any, tracking: Tracking) -> None: ...

    @process_event.register
    def _(self, domain_event: UserRegistered, tracking: Tracking) -> None:
        self.view.add(domain_event, tracking)


class WithOtherWork(PostgresApplicationRecorder):
    """Does other work in the transaction of its events, where a process recorder tracks."""

    def _insert_events(self, curs: Any, stored_events: Sequence[Any], **kwargs: Any) -> None:
        curs.execute("SELECT pg_sleep(%s)", (random.uniform(*OPEN_S),))


class EventSourcing(bare_psycopg.OnPsycopg):
    """One application; its recorder's table is locked by each append, so that none is skipped."""

    def hello(self) -> Answer:
        return {
            "client": bare_psycopg.CLIENT,
            "guarantee": "exactly once: effect and tracking commit together",
            "how": "Application.save; ProjectionRunner with a PostgresTrackingRecorder",
        }

    def set_up(self, url: str, sample: Answer) -> Answer:
        self.open(url, sample)
        return {"events": "SELECT notification_id::text FROM users_events"}

    def open(self, url: str, sample: Answer) -> None:
        self.url, self.sample = url, sample
        parts = urlsplit(url)
        where = parse_qs(parts.query)
        os.environ |= {
            "PERSISTENCE_MODULE": "eventsourcing.postgres",
            "POSTGRES_DBNAME": parts.path.removeprefix("/"),
            "POSTGRES_HOST": where["host"][0],
            "POSTGRES_PORT": where["port"][0],
            "POSTGRES_USER": parts.username or "",
            "POSTGRES_PASSWORD": "none",
            "POSTGRES_POOL_SIZE": "8",
        }
        self._users = Users()

    def append(self, writers: int, size: int, seconds: float) -> Answer:
        @contextmanager
        def prepare(_number: int) -> Iterator[Step]:
            def step() -> int:
                self._users.save(*self._events(size))
                return size

            yield step

        return in_threads(writers, seconds, prepare)

    def follow(self, name: str, purpose: Purpose) -> None:
        projection = type(name, (Effects,), {"name": name})
        runner = ProjectionRunner(
            application_class=Users, projection_class=projection, view_class=View
        )
        self._runner = runner.__enter__()

    def stop(self) -> None:
        self._runner.__exit__(None, None, None)

    def one(self) -> Answer:
        events = self._events(1)
        begun = time.monotonic()
        self._users.save(*events)
        return {"begun": begun}

    def contend(self, writers: int, seconds: float) -> Answer:
        topic = f"{WithOtherWork.__module__}:{WithOtherWork.__qualname__}"
        with Users(env={"APPLICATION_RECORDER_TOPIC": topic}) as users:

            @contextmanager
            def prepare(number: int) -> Iterator[Step]:
                chance = random.Random(number)

                def step() -> int:
                    events = self._events(1)
                    if chance.random() < ROLLED_BACK:
                        with suppress(IntegrityError):
                            users.save(*events, *events)  # the same version twice
                        return 0
                    users.save(*events)
                    return 1

                yield step

            return in_threads(writers, seconds, prepare)

    def _events(self, size: int) -> list[UserRegistered]:
        user = uuid4()
        return [
            UserRegistered(
                originator_id=user,
                originator_version=number + 1,
                timestamp=UserRegistered.create_timestamp(),
                data=self.sample["data"],
                metadata=self.sample["metadata"],
            )
            for number in range(size)
        ]


if __name__ == "__main__":
    serve(EventSourcing())
