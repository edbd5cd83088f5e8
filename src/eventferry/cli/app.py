"""The tree of commands, and what becomes of what they answer or raise."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, NoReturn

import typer

from eventferry.cli import (
    audit,
    bench,
    check,
    completion,
    control,
    dashboard,
    dev,
    event,
    init,
    migrate,
    projection,
    resetting,
    restarting,
    running,
    scheduling,
    show,
    store,
    stream,
    unparking,
)
from eventferry.cli.call import Call, ConfigOption, JsonOption, path
from eventferry.cli.completion import PROGRAM, VARIABLE
from eventferry.cli.failure import failure
from eventferry.cli.report import WRONG, Problem, Report, Screen, envelope

app = typer.Typer(
    name=PROGRAM,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Moves events between services, with nothing but the PostgreSQL they already run.",
    epilog="\b\nExample:\n  eventferry demo\n  eventferry projections status --json",
)
init.add_to(app)
migrate.add_to(app)
stream.add_to(app)
event.add_to(app)
running.add_to(app)
restarting.add_to(app)
scheduling.add_to(app)
projections = projection.add_to(app)
for commands in (control, unparking, resetting, audit):
    commands.add_to(projections)
check.add_to(app)
dashboard.add_to(app)
dev.add_to(app)
store.add_to(app)
show.add_to(app)
bench.add_to(app)
completion.add_to(app)

# typer brings its own click, or uses the installed one: this is the class in either
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"{PROGRAM} {version('eventferry')}")
        raise typer.Exit


@app.callback()
def everywhere(
    context: typer.Context,
    config_path: ConfigOption = None,
    as_json: JsonOption = False,
    _: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="The version, and exit."),
    ] = False,
) -> None:
    """What may stand before any command."""
    call: Call = context.obj
    call.config_path, call.json = config_path, as_json or call.json


def run(argv: Sequence[str]) -> int:
    """Runs one command and prints its report; returns the exit code."""
    call = Call(json="--json" in argv)
    if VARIABLE in os.environ:
        _complete()
    try:
        report = _parsed(argv, call) or _done(call)
        _print(call, report)
        sys.stdout.flush()
    except BrokenPipeError:
        # whoever read us has enough; Python would complain once more when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return report.code


def _parsed(argv: Sequence[str], call: Call) -> Report | None:
    """Finds the command; a report where nothing is left to do: help, or wrong usage."""
    try:
        typer.main.get_command(app).main(
            list(argv), prog_name=PROGRAM, standalone_mode=False, obj=call
        )
    except _UsageError as error:
        return _usage(error, call)
    return None if call.action else Report(is_printed=True)


def _complete() -> NoReturn:
    """Answers a shell, and ends; never with a message, as that would land amid the line."""
    from typer._completion_classes import completion_init

    completion_init()
    with suppress(Exception):
        typer.main.get_command(app).main([], prog_name=PROGRAM, complete_var=VARIABLE)
    sys.exit(1)


def _done(call: Call) -> Report:
    assert call.action is not None
    try:
        return call.action()
    except BrokenPipeError:
        raise
    except _UsageError as error:
        return _usage(error, call)
    except Exception as error:
        return failure(error)


def _usage(error: Exception, call: Call) -> Report:
    context = getattr(error, "ctx", None)
    if context is not None:
        call.command = path(context)
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    if not call.json and context is not None and type(error).__name__ != "NoArgsIsHelpError":
        message = f"{message} Try: {context.command_path} --help"
    return Report(problems=(Problem("UsageError", message),), code=WRONG)


def _print(call: Call, report: Report) -> None:
    if report.is_printed:
        return
    if call.json:
        print(envelope(call.command, report))
        return
    report.show(Screen(sys.stdout))
    sys.stdout.flush()
    for problem in report.problems:
        is_help = problem.message.startswith("Usage:")
        call.messages.line(problem.message if is_help else f"error: {problem.message}")
