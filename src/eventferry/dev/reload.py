"""Keeps a worker at the newest code: it ends after its batch, and a new one goes on.

Beside it runs a dashboard, which needs the configuration alone: a new one for each that changes.

Nothing is lost or doubled by that, as by any other end of a worker: what a batch does commits
together with the checkpoint, or not at all.

    worker runs ── a file changes ──> it is told to end ──> a new one runs
         │                              (killed, if it does not)    ▲
         ├── ends by saying what is wrong ──> wait for a change ────┤
         └── ends otherwise ──> a moment ───────────────────────────┘
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from eventferry.embedded import EmbeddedServer
from eventferry.errors import EventFerryError
from eventferry.process import SIGNALS, Process

SAID_WHY: Final = (1, 2)
"""The exit codes of a worker that has said what is wrong: it would say the same again."""
RESTART_S: Final = 1.0
DEBOUNCE_MS: Final = 200
"""Changes that are no further apart are one; PostgreSQL's, in `.eventferry`, come all the time."""


class DevUnavailable(EventFerryError):
    """The extra `dev` is missing, or does not work here."""


def require() -> None:
    """Refuses to begin what could not watch anything.

    Raises:
        DevUnavailable: the extra `dev` is missing.
    """
    if find_spec("watchfiles") is None:
        raise DevUnavailable(
            'what `eventferry dev` needs is not installed: pip install "eventferry[dev]"'
        )


@dataclass(frozen=True, slots=True)
class Changed:
    """Files have changed, or are gone, or are new."""

    files: list[Path]


@dataclass(frozen=True, slots=True)
class Ended:
    """A worker has ended."""

    worker: Process


@dataclass(frozen=True, slots=True)
class Due:
    """After a moment, this one is to have a successor."""

    worker: Process


class ServerEnded:
    """The server has ended, and nobody has told it to."""


class Told:
    """A signal: it is over."""


@dataclass(slots=True, kw_only=True)
class Reload:
    """Runs a service's worker, and a new one whenever its code changes."""

    folder: Path
    """The service's: what changes below it, matters."""
    start: Callable[[], Process]
    """Starts a worker."""
    start_dashboard: Callable[[], Process] | None = None
    """Starts a dashboard; None: there is none."""
    server: EmbeddedServer | None
    """The server to keep alive; None: somebody else does."""
    grace_s: float
    """How long a worker may take to end."""
    say: Callable[[str], None]
    """Tells people."""
    _happened: SimpleQueue[Changed | Ended | Due | ServerEnded | Told] = field(
        default_factory=SimpleQueue
    )
    _worker: Process | None = None
    _dashboard: Process | None = None

    def run(self) -> None:
        """Until a signal says that it is over; then the worker has ended.

        Raises:
            DevUnavailable: the folder can't be watched.
            EmbeddedServerError: the server has ended, and does not start again.
        """
        with self._signals(), self._watching():
            try:
                self._start()
                self._start_dashboard()
                self._watch_server()
                while not isinstance(happened := self._happened.get(), Told):
                    self._react(happened)
            finally:
                self._stop()
                self._stop_dashboard()

    def _react(self, happened: Changed | Ended | Due | ServerEnded) -> None:
        match happened:
            case Changed(files):
                self.say(f"{self._named(files)} changed: a new worker goes on")
                self._stop()
                self._start()
                if any(file.suffix == ".toml" for file in files):
                    self._stop_dashboard()
                    self._start_dashboard()
            case Ended(worker) if worker is self._worker:
                code = worker.ended()
                if code in SAID_WHY:
                    self.say("the worker has ended, see above: it waits for a change")
                else:
                    self.say(f"the worker has ended ({code}): another one goes on in a moment")
                    self._later(RESTART_S, Due(worker))
            case Due(worker) if worker is self._worker:
                self._start()
            case ServerEnded() if self.server is not None:
                self.say("PostgreSQL has ended: it starts again")
                self.server.start()
                self._watch_server()

    def _start(self) -> None:
        worker = self._worker = self.start()
        self._thread(worker.ended, Ended(worker))

    def _stop(self) -> None:
        if self._worker is not None and not self._worker.stop(self.grace_s):
            self.say(
                f"the worker had not ended after {self.grace_s:g} s, and was killed: what its "
                "batch did is rolled back, and will be done again"
            )
        self._worker = None

    def _start_dashboard(self) -> None:
        if self.start_dashboard is not None:
            self._dashboard = self.start_dashboard()

    def _stop_dashboard(self) -> None:
        if self._dashboard is not None:
            self._dashboard.stop(self.grace_s)
        self._dashboard = None

    def _watch_server(self) -> None:
        if self.server is not None:
            self._thread(self.server.wait, ServerEnded())

    def _thread(self, wait: Callable[[], object], then: Ended | ServerEnded) -> None:
        def waiting() -> None:
            _leave_signals_to_main()
            wait()
            self._happened.put(then)

        threading.Thread(target=waiting, daemon=True).start()

    def _later(self, seconds: float, then: Due) -> None:
        timer = threading.Timer(seconds, self._happened.put, [then])
        timer.daemon = True
        timer.start()

    def _named(self, files: list[Path]) -> str:
        names = sorted(str(file.relative_to(self.folder)) for file in files)
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return ", ".join(names[:3]) + more

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """The first signal ends all in order, a second one does not wait for the worker."""
        told = False

        def on_signal(_number: int, _frame: object) -> None:
            nonlocal told
            if told and self._worker is not None:
                self._worker.signal(signal.SIGKILL)
            told = True
            self._happened.put(Told())

        before = [signal.signal(number, on_signal) for number in SIGNALS]
        try:
            yield
        finally:
            for number, handler in zip(SIGNALS, before, strict=True):
                signal.signal(number, handler)

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Changes from here on are seen."""
        from watchfiles import PythonFilter, watch

        class Filter(PythonFilter):
            ignore_dirs = (*PythonFilter.ignore_dirs, ".eventferry", ".ruff_cache", "venv")

        stop, failed = Stop(), []

        def watching() -> None:
            _leave_signals_to_main()
            only = Filter(extra_extensions=[".toml"])
            try:
                for found in watch(
                    self.folder, watch_filter=only, debounce=DEBOUNCE_MS, stop_event=stop
                ):
                    self._happened.put(Changed([Path(path) for _, path in found]))
            except OSError as error:  # such as: the system's limit of watched folders
                failed.append(error)
            finally:
                stop.is_watching.set()

        thread = threading.Thread(target=watching, name="eventferry watch", daemon=True)
        thread.start()
        stop.is_watching.wait()
        try:
            if failed:
                raise DevUnavailable(f"{self.folder} can't be watched: {failed[0]}")
            yield
        finally:
            stop.is_asked.set()
            thread.join()


def _leave_signals_to_main() -> None:
    """In a thread: a signal that it takes would not wake the main one, which has to act on it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


@dataclass(frozen=True, slots=True)
class Stop:
    """What watchfiles asks whether to stop: first of all, when it has begun to watch."""

    is_asked: threading.Event = field(default_factory=threading.Event)
    is_watching: threading.Event = field(default_factory=threading.Event)

    def is_set(self) -> bool:
        self.is_watching.set()
        return self.is_asked.is_set()
