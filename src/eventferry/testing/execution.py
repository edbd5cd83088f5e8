"""Running projections in a test: as production does, each event once, no exception lost."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import psycopg

from eventferry.config import Config
from eventferry.ended import End, Ended
from eventferry.errors import TransactionLost
from eventferry.handler import Handler
from eventferry.projection import Projection
from eventferry.worker import Worker

T = TypeVar("T")

PATIENCE_S = 5.0
"""How long a transaction that holds a projection back may take to end."""
HOLDS = {
    End.IN_FLIGHT: "an append whose transaction is still open",
    End.BUSY: "its checkpoint, which another transaction has locked",
}

PACKAGE = str(Path(__file__).parents[1])
"""Where frames of a traceback are ours."""


async def until_idle(config: Config, projections: Sequence[Projection]) -> dict[str, Ended]:
    """Runs projections as production does, but that it does not wait for the test itself.

    Raises:
        AssertionError: the test holds what a projection waits for.
    """
    deadline = time.monotonic() + PATIENCE_S
    held: dict[str, str] = {}

    def on_ended(projection: Projection, ended: Ended) -> None:
        if ended.end in HOLDS and time.monotonic() > deadline:
            held[projection.name] = HOLDS[ended.end]
            worker.stop()

    worker = Worker(config=config, projections=projections, on_ended=on_ended)
    ended = await worker.run_until_idle()
    for name, what in held.items():
        raise AssertionError(f"{name} waits for {what}: the test has to commit it first")
    return ended


@dataclass(frozen=True, slots=True)
class Raised:
    """What a handler has raised, and where, seen from the handler: the engine comes on top."""

    error: BaseException
    traceback: TracebackType | None

    @classmethod
    def by_handler(cls, error: BaseException) -> Self:
        """As it arrives from a handler."""
        found = error.__traceback__
        while found and found.tb_next and found.tb_frame.f_code.co_filename.startswith(PACKAGE):
            found = found.tb_next
        return cls(error, found)


OnRaised = Callable[[Raised], object]


def once(projection: Projection, on_raised: OnRaised) -> Projection:
    """The projection, whose events are tried once, and whose handler tells what it raises."""
    tried = replace(projection, attempts=1, on_failure="stop")
    if projection.handler is None:
        return tried
    return replace(tried, handler=around(projection.handler, lambda: telling(on_raised)))


@contextmanager
def telling(on_raised: OnRaised) -> Iterator[None]:
    """Tells of what is raised inside, and lets it go on."""
    try:
        yield
    except BaseException as error:
        on_raised(Raised.by_handler(error))
        raise


def around(handler: Handler, manager: Callable[[], Any]) -> Handler:
    """The handler, each call of it inside of a context manager."""

    def wrapped(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def call(given: Any, context: Any) -> Any:
            __tracebackhide__ = True
            with manager():
                return function(given, context)

        async def call_async(given: Any, context: Any) -> Any:
            __tracebackhide__ = True
            with manager():
                return await function(given, context)

        return call_async if handler.is_async else call

    batch = handler.handle_batch
    return replace(handler, handle=wrapped(handler.handle), handle_batch=batch and wrapped(batch))


def failure_of(ended: Ended, raised: Raised | None) -> BaseException:
    """The exception that a projection has failed with.

    What the handler has raised itself; or else what the database or the engine has refused, of
    which the projection keeps the text.
    """
    said = ended.error or ""
    name, _, text = said.partition(": ")
    if raised is not None and type(raised.error).__qualname__ == name:
        return raised.error.with_traceback(raised.traceback)
    if name == TransactionLost.__name__:
        return TransactionLost(text)
    refused = getattr(psycopg.errors, name, None)
    if isinstance(refused, type) and issubclass(refused, psycopg.Error):
        return refused(text)
    return AssertionError(f"a projection has failed: {said}")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs it on a loop of its own, also where one runs already: a test may be async."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run(main)
    with ThreadPoolExecutor(1, "eventferry test") as thread:
        return thread.submit(contextvars.copy_context().run, _run, main).result()


def _run(main: Coroutine[Any, Any, T]) -> T:
    # with a loop of its own choice it leaves the thread's current one alone
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(main)
