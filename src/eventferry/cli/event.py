"""`eventferry events …`: CloudEvents, one a line, out of a stream; and into it (`importing`)."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from eventferry.cli import importing
from eventferry.cli.call import (
    Call,
    Environment,
    EnvironmentOption,
    StreamArgument,
    command,
    url_of,
)
from eventferry.cli.failure import failure
from eventferry.cli.report import Report, dumped, in_one_line, problems

if TYPE_CHECKING:
    from eventferry.store import EventStore


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    events = typer.Typer(
        no_args_is_help=True, help="Events: appending and reading CloudEvents JSON lines."
    )
    app.add_typer(events, name="events")
    importing.add_to(events)

    @command(
        events,
        "read",
        examples=(
            "eventferry events read users-stream --after 100 --limit 10",
            "eventferry events read users-stream --backwards --limit 1 --type UserRegistered",
            "eventferry events read users-stream --follow | jq .type",
        ),
    )
    def read(
        call: Call,
        stream: StreamArgument,
        environment: EnvironmentOption = Environment.LOCAL,
        after: Annotated[int, typer.Option(min=0, help="Only after this position.")] = 0,
        before: Annotated[int | None, typer.Option(help="Only before this position.")] = None,
        types: Annotated[
            list[str] | None, typer.Option("--type", help="Only of this type; repeat it for more.")
        ] = None,
        limit: Annotated[int | None, typer.Option(min=0, help="How many; all by default.")] = None,
        backwards: Annotated[bool, typer.Option("--backwards", help="The newest first.")] = False,
        follow: Annotated[
            bool, typer.Option("--follow", help="Go on with what is appended, until Ctrl-C.")
        ] = False,
    ) -> Report:
        """Print a stream as CloudEvents lines.

        Up to what can be read now.

        With --json they are the `data` of the envelope.
        """
        from eventferry.store import EventStore

        if follow and (backwards or call.json or (before, limit) != (None, None)):
            raise typer.BadParameter("--follow goes with --after and --type only")
        config = call.config()
        with EventStore(url_of(config, environment)) as store:
            if follow:
                _follow(call, store, stream, after, types, config.poll_interval.total_seconds())
            events = store.read(
                stream, after=after, before=before, types=types, limit=limit, backwards=backwards
            )
            if call.json:
                return _enveloped(call.command, _lines(events))
            for line in _lines(events):
                print(line)
        return Report(is_printed=True)


def _follow(
    call: Call, store: EventStore, stream: str, after: int, types: list[str] | None, poll_s: float
) -> NoReturn:
    """Prints what there is, and what comes, each line at once and once.

    Raises:
        StoreUnavailable: at the start; later outages are waited out, and said.
    """
    from eventferry import cloudevent
    from eventferry.errors import StoreUnavailable
    from eventferry.step import Tries

    logging.getLogger("psycopg").addHandler(logging.NullHandler())  # of outages, we tell
    tries, has_begun = Tries(), False
    while True:
        try:
            for event in store.read(stream, after=after):
                if not types or event.type in types:
                    print(cloudevent.format_line(event), flush=True)
                after = event.position
        except StoreUnavailable as error:
            if not has_begun:
                raise
            store.close()  # the next read connects anew, without the patience of a pool
            pause = tries.outage()
            call.messages.line(f"{in_one_line(error)}; going on in {pause:.1f} s", "yellow")
            time.sleep(pause)
            continue
        if tries.outages:
            call.messages.line(f"the store is back; going on after position {after}")
        tries, has_begun = Tries(), True
        time.sleep(poll_s)


def _lines(events: Iterable[Any]) -> Iterator[str]:
    from eventferry import cloudevent

    for event in events:
        yield cloudevent.format_line(event)


def _enveloped(name: str, lines: Iterator[str]) -> Report:
    """The envelope, written as the events come: they need not fit into memory."""
    report = Report(is_printed=True)
    print(f'{{"command": {dumped(name)}, "data": [', end="")
    try:
        for number, line in enumerate(lines):
            print(f"{',' if number else ''}\n{line}", end="")
    except BrokenPipeError:
        raise
    except Exception as error:
        failed = failure(error)
        report = Report(problems=failed.problems, code=failed.code, is_printed=True)
    ok, errors = dumped(report.code == 0), dumped(problems(report.problems))
    print(f'], "ok": {ok}, "errors": {errors}}}')
    return report
