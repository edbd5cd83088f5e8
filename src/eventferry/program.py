"""What a program calls to run projections: one until it is caught up, or a worker until it is told.

A worker's loop is in `worker`; here are the projections that it gets, and the signals that end it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from eventferry.config import Config, load
from eventferry.ended import Ended
from eventferry.projection import Projection
from eventferry.worker import CONCURRENCY, Worker

log = logging.getLogger("eventferry.worker")


def chosen(
    config: Config,
    names: Sequence[str] | None = None,
    *,
    queue: str | None = None,
    background: bool = False,
) -> list[Projection]:
    """The projections that a worker runs: the named ones, or those of its queue.

    Raises:
        UnknownProjection: the configuration has none of this name.
    """
    if names is None:
        return [
            p
            for p in config.projections.values()
            if (background if p.background else queue in (None, p.queue))
        ]
    return config.named(names)


def run_projection(name: str, config: Config | Path | str | None = None) -> Ended:
    """Runs one projection until it is caught up, or has failed; in this thread.

    For a task of a job queue, a script, a test. Safe beside any number of workers. Async code
    calls it in a thread: `await asyncio.to_thread(run_projection, name)`. Between the attempts at
    a failing event it waits here, as `attempts` and `backoff` say.

    Args:
        name: The projection's.
        config: The configuration, or its file; None: found as the command line finds it.

    Returns:
        How its last run ended, with the number of events that all its runs handled. A handler
        that fails is no exception here: `end` is `End.FAILED` then, and `error` says why.

    Raises:
        ConfigurationError: the configuration is wrong; with all mistakes.
        UnknownProjection: the configuration has none of this name.
        ProjectionError: the projection has run with other streams before.
        StoreUnavailable: a store can't be reached at the start; later outages are waited out.
        StoreNotMigrated: run `eventferry migrate`.
        SchemaTooNew: upgrade eventferry.
    """
    configuration = config if isinstance(config, Config) else load(config)

    async def until_idle() -> Ended:
        worker = Worker(config=configuration, projections=chosen(configuration, [name]))
        return (await worker.run_until_idle())[name]

    return asyncio.run(until_idle())


def run_worker(
    config: Config | Path | str | None = None,
    *,
    names: Sequence[str] | None = None,
    queue: str | None = None,
    background: bool = False,
    concurrency: int = CONCURRENCY,
) -> None:
    """Runs projections until the process is told to end; SIGTERM and Ctrl-C finish the batch.

    What `eventferry worker` does, in the main thread of a program of your own.

    Args:
        config: The configuration, or its file; None: found as the command line finds it.
        names: The projections to run; None: the on-demand ones of the queue.
        queue: Whose on-demand projections; None: of all queues.
        background: The long-running projections too.
        concurrency: How many projections run at a time.

    Raises:
        ConfigurationError: the configuration is wrong; with all mistakes.
        UnknownProjection: the configuration has none of this name.
        ProjectionError: the projection has run with other streams before.
        StoreUnavailable: a store can't be reached at the start; later outages are waited out.
        StoreNotMigrated: run `eventferry migrate`.
        SchemaTooNew: upgrade eventferry.
    """
    configuration = config if isinstance(config, Config) else load(config)

    async def until_stopped() -> None:
        worker = Worker(
            config=configuration,
            projections=chosen(configuration, names, queue=queue, background=background),
            concurrency=concurrency,
        )
        stop_on_signals(worker.stop)
        await worker.run()

    asyncio.run(until_stopped())


def stop_on_signals(stop: Callable[[], None]) -> None:
    """SIGTERM and SIGINT end the batch, then the loop that runs here; a second one ends at once."""
    signalled = False

    def on_signal(number: int) -> None:
        nonlocal signalled
        if signalled:
            os._exit(128 + number)  # what is open is rolled back by the server
        signalled = True
        log.warning("stopping after the batch; once more to stop at once")
        stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
