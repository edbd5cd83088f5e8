"""What eventferry is not: a reader of `position > last`, polling, as people write it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from uuid import UUID

import psycopg

from eventferry.demo.failure import DemoFailed

POLL_S = 0.005
NAIVE = """
SELECT position, id FROM streams."users-stream" WHERE position > %s ORDER BY position LIMIT 1000
"""


@dataclass(slots=True)
class NaiveReader:
    """Reads the local stream in a thread, from the start."""

    url: str
    seen: set[UUID] = field(default_factory=set)
    """The ids of the events that it has got."""
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _error: psycopg.Error | None = None

    def __enter__(self) -> NaiveReader:
        self._thread = threading.Thread(target=self._run, name="demo naive reader", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def finish(self) -> set[UUID]:
        """Lets it read up to the end of the stream: the ids that it has got.

        Raises:
            DemoFailed: it could not read.
        """
        self.__exit__()
        if self._error is not None:
            raise DemoFailed(f"the naive reader could not read: {self._error}") from self._error
        return self.seen

    def _run(self) -> None:
        try:
            with psycopg.connect(self.url, autocommit=True) as conn:
                last, stopping = 0, False
                while not stopping:
                    stopping = self._stopping.wait(POLL_S)  # then to the end, a last time
                    while rows := conn.execute(NAIVE, (last,)).fetchall():
                        self.seen.update(id_ for _, id_ in rows)
                        last = rows[-1][0]
        except psycopg.Error as error:
            self._error = error
