"""One call of the command line: what is common to all commands.

`command` makes a command of a function `(call, …) -> Report`, adds the options that every command
has, and puts examples under its help.
"""

from __future__ import annotations

import getpass
import inspect
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eventferry.cli import completing
from eventferry.cli.report import Report, Screen

if TYPE_CHECKING:
    import psycopg

    from eventferry.config import Config
    from eventferry.projection import Projection


class Environment(StrEnum):
    """A store of the service."""

    LOCAL = "local"
    SHARED = "shared"


@dataclass(slots=True)
class Call:
    """One call of the command line."""

    config_path: Path | None = None
    json: bool = False
    command: str = ""
    """Without the program: `projections status`."""
    action: Callable[[], Report] | None = None
    """The command with its arguments: first everything is parsed, then something is done."""

    @property
    def messages(self) -> Screen:
        """Standard error: what is not the answer."""
        return Screen(sys.stderr)

    def config(self, *, import_handlers: bool = False) -> Config:
        """The configuration; what should be known of it is said on standard error.

        Raises:
            ConfigurationError: with all mistakes.
        """
        from eventferry.config import load

        config = load(self.config_path, import_handlers=import_handlers)
        for note in config.notes:
            self.messages.line(f"warning: {note}", "yellow")
        return config


def reason(text: str) -> str:
    """A reason as the audit keeps it: it has to say something."""
    if not text.strip():
        raise typer.BadParameter("it is empty; say why, for those who will ask")
    return text.strip()


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="PATH",
        help="The configuration; else EVENTFERRY_CONFIG, else projections.toml here or above.",
        show_default=False,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Answer with one JSON object.", show_default=False)
]
NameArgument = Annotated[
    str,
    typer.Argument(
        help="Of the projection.", show_default=False, autocompletion=completing.projections
    ),
]
NamesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME]...",
        help="Of projections; all by default.",
        autocompletion=completing.projections,
    ),
]
StreamArgument = Annotated[
    str,
    typer.Argument(
        help="It must exist.", show_default=False, autocompletion=completing.stream_names
    ),
]
EnvironmentOption = Annotated[
    Environment, typer.Option("--environment", help="Which store: the service's own, or all's.")
]

ReasonOption = Annotated[
    str | None, typer.Option("--reason", parser=reason, metavar="TEXT", help="For the audit.")
]

_KEYWORD = inspect.Parameter.KEYWORD_ONLY
_COMMON = [
    inspect.Parameter(name, _KEYWORD, default=default, annotation=annotation)
    for name, default, annotation in (
        ("config_path", None, ConfigOption),
        ("as_json", False, JsonOption),
    )
]


def command(
    app: typer.Typer, name: str, *, examples: tuple[str, ...]
) -> Callable[[Callable[..., Report]], Callable[..., Report]]:
    """Makes a command of a function that takes the call, then its own arguments."""

    def decorate(function: Callable[..., Report]) -> Callable[..., Report]:
        _, *own = inspect.signature(function, eval_str=True).parameters.values()

        def callback(context: typer.Context, **arguments: Any) -> None:
            call: Call = context.obj
            call.config_path = arguments.pop("config_path") or call.config_path
            call.json = arguments.pop("as_json") or call.json
            call.command = path(context)
            call.action = partial(function, call, **arguments)

        # what typer makes the options of: the function's own, and those that all have
        parameters = [
            inspect.Parameter("context", _KEYWORD, annotation=typer.Context),
            *(p.replace(kind=_KEYWORD) for p in own),
            *_COMMON,
        ]
        callback.__doc__ = function.__doc__
        callback.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        callback.__annotations__ = {p.name: p.annotation for p in parameters}
        app.command(name, epilog=_epilog(examples))(callback)
        return function

    return decorate


def _epilog(examples: tuple[str, ...]) -> str:
    return "\n".join(["\b", "Example:", *(f"  {example}" for example in examples)])


def path(context: typer.Context) -> str:
    """The command without the program: `projections status` for `eventferry projections status`."""
    return context.command_path.partition(" ")[2]


def seconds(text: str) -> float:
    """A duration as the configuration writes it, in seconds."""
    from eventferry.config import parse_duration

    try:
        duration: timedelta = parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return duration.total_seconds()


def who() -> str:
    """Who gives the command, for the audit: `EVENTFERRY_USER`, or user@host."""
    from eventferry.audit import USER_VARIABLE

    if said := os.environ.get(USER_VARIABLE, "").strip():
        return said
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def position_or(*words: str) -> Callable[[str], str | int]:
    """A parser of one of the words, or of a position."""

    def position(text: str) -> str | int:
        if text in words:
            return text
        if not (text.isascii() and text.isdigit()):
            raise typer.BadParameter(f"expected {', '.join(words)} or a position, not {text!r}")
        return int(text)

    return position


def chosen_or_all(config: Config, names: list[str] | None) -> list[Projection]:
    """The named projections, or all.

    Raises:
        UnknownProjection: the configuration has none of this name.
    """
    from eventferry.program import chosen

    return chosen(config, names) if names else list(config.projections.values())


def url_of(config: Config, environment: Environment) -> str:
    """The URL of a store of the service."""
    return config.local_url if environment is Environment.LOCAL else config.shared_url


@contextmanager
def connected(config: Config, environment: Environment) -> Iterator[psycopg.Connection[Any]]:
    """A connection to a store of the service, in autocommit, the schema checked.

    Raises:
        StoreUnavailable, StoreNotMigrated, SchemaTooNew: the store is not to be used; inside, the
            driver's errors become ours.
    """
    import psycopg

    from eventferry import migration, sql
    from eventferry.connection import options, shown, translated

    url = url_of(config, environment)
    store = shown(url, environment)
    with translated(store), psycopg.connect(url, **options("command line")) as conn:
        migration.require_migrated(conn.execute(sql.query("migrations")).fetchall(), store)
        yield conn
