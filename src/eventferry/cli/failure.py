"""What went wrong, in a few words: no traceback for what eventferry raises on purpose."""

from __future__ import annotations

import os
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING

from eventferry.cli.report import FAILED, WRONG, Problem, Report, in_one_line

if TYPE_CHECKING:
    from eventferry.errors import EventFerryError

DEBUG_VARIABLE = "EVENTFERRY_DEBUG"


def failure(error: BaseException, *, data: object = None) -> Report:
    """The report of a command that has raised `error`."""
    found = [_problem(leaf) for leaf in leaves(error)]
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(error)
    return Report(
        data=data,
        problems=tuple(problem for problems, _ in found for problem in problems),
        code=max(code for _, code in found),
    )


def missing(away: EventFerryError | None) -> Report:
    """What is said of the shared store by who goes on without it; None: it is there."""
    if away is None:
        return Report()
    failed = failure(away)
    (problem,) = failed.problems
    message = f"{problem.message}. Shown is what the local store knows"
    return replace(failed, problems=(replace(problem, message=message),))


def leaves(error: BaseException) -> list[BaseException]:
    """What a task group's exception is made of, the same thing once."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    found = [leaf for part in error.exceptions for leaf in leaves(part)]
    return list({(type(leaf), str(leaf)): leaf for leaf in found}.values())


def _problem(error: BaseException) -> tuple[list[Problem], int]:
    from eventferry import errors
    from eventferry.connection import is_outage
    from eventferry.dev.reload import DevUnavailable
    from eventferry.server_folder import EmbeddedServerError

    name = type(error).__name__
    if isinstance(error, errors.ConfigurationError):
        return [Problem(name, mistake) for mistake in error.mistakes], WRONG
    if isinstance(error, errors.EventFerryError):
        wrong = (
            errors.StoreUnavailable,
            errors.StoreNotMigrated,
            errors.SchemaTooNew,
            errors.InvalidStreamName,
            errors.UnknownStream,
            errors.UnknownProjection,
            EmbeddedServerError,
            DevUnavailable,
        )
        return [Problem(name, str(error))], WRONG if isinstance(error, wrong) else FAILED
    if isinstance(error, Exception) and is_outage(error):
        return [Problem(name, f"a store can't be reached: {in_one_line(error)}")], WRONG
    if isinstance(error, OSError) and error.filename is not None:
        return [Problem(name, f"{error.filename}: {error.strerror}")], WRONG
    hint = f"Set {DEBUG_VARIABLE}=1 for the traceback"
    return [Problem(name, f"unexpected {name}: {in_one_line(error)}. {hint}")], FAILED
