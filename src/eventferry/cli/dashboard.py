"""`eventferry dashboard`: what flows where, in a browser."""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from eventferry.cli import logs
from eventferry.cli.call import Call, command, seconds, who
from eventferry.cli.logs import LogFileOption, LogLevel, LogLevelOption
from eventferry.cli.report import WRONG, Problem, Report, Screen, envelope

if TYPE_CHECKING:
    from eventferry.config import Config
    from eventferry.dashboard.settings import Settings

PORT = 8377
MISSING = 'the dashboard needs its extra: pip install "eventferry[dashboard]"'


def add_to(app: typer.Typer) -> None:
    """Adds the command."""

    @command(
        app,
        "dashboard",
        examples=(
            "eventferry dashboard",
            "eventferry dashboard --host 0.0.0.0 --url https://ops.example.org/users",
            "eventferry dashboard --read-only --no-payloads",
        ),
    )
    def dashboard(
        call: Call,
        host: Annotated[
            str, typer.Option(help="Where to listen; beyond this machine, logins must be set up.")
        ] = "127.0.0.1",
        port: Annotated[
            int, typer.Option(min=0, max=65_535, help="TCP port; 0: a free one.")
        ] = PORT,
        url: Annotated[
            str | None,
            typer.Option(help="Under which people see it, where a proxy stands before it."),
        ] = None,
        user_header: Annotated[
            str | None,
            typer.Option(
                metavar="NAME",
                help="The header in which your proxy says who the user is. It must be the only "
                "way in, and drop the header where a client sends it.",
            ),
        ] = None,
        read_only: Annotated[bool, typer.Option("--read-only", help="Change nothing.")] = False,
        no_payloads: Annotated[
            bool, typer.Option("--no-payloads", help="Show no event's data and metadata.")
        ] = False,
        refresh_s: Annotated[
            float | None,
            typer.Option(
                "--refresh",
                metavar="DURATION",
                parser=seconds,
                help="How often the stores are asked while somebody looks; 5s by default.",
            ),
        ] = None,
        hash_password: Annotated[
            bool,
            typer.Option("--hash-password", help="Ask for a password, print what lets in, end."),
        ] = False,
        log_level: LogLevelOption = LogLevel.WARNING,
        log_file: LogFileOption = None,
    ) -> Report:
        """Show what flows where, what lags, what failed, and mend it, in a browser.

        Only this machine is let in, unless EVENTFERRY_DASHBOARD_TOKEN, EVENTFERRY_DASHBOARD_USERS
        or --user-header say who may. Needs the extra `dashboard`.
        """
        try:
            import eventferry.dashboard.app  # noqa: F401
        except ImportError as error:
            if (error.name or "").startswith("eventferry"):
                raise
            return Report(problems=(Problem("ImportError", MISSING),), code=WRONG)
        if hash_password:
            return _hashed()
        from eventferry.dashboard.settings import (
            LOOK_S,
            TOKEN_VARIABLE,
            USERS_VARIABLE,
            Settings,
            checked,
            users_of,
        )

        settings = checked(
            Settings(
                host=host,
                port=port,
                url=url,
                token=os.environ.get(TOKEN_VARIABLE) or None,
                users=users_of(os.environ.get(USERS_VARIABLE, "")),
                user_header=user_header,
                read_only=read_only,
                payloads=not no_payloads,
                look_s=refresh_s or LOOK_S,
            )
        )
        config = call.config()
        with logs.kept(log_level, log_file, service=config.service):
            return _served(call, config, settings)


def _hashed() -> Report:
    """A line for EVENTFERRY_DASHBOARD_USERS."""
    from argon2 import PasswordHasher

    if sys.stdin.isatty():
        password = getpass.getpass("Password: ")
    else:
        password = sys.stdin.readline().rstrip("\n")
    if not password:
        problem = Problem("NoPassword", "expected a password on standard input, and none came")
        return Report(problems=(problem,), code=WRONG)
    hashed = PasswordHasher().hash(password)
    return Report(data={"hash": hashed}, show=lambda screen: screen.line(hashed))


def _served(call: Call, config: Config, settings: Settings) -> Report:
    from eventferry.dashboard.server import serve

    try:
        listener = socket.create_server(
            (settings.host, settings.port),
            family=socket.AF_INET6 if ":" in settings.host else socket.AF_INET,
        )
    except OSError as error:
        raise typer.BadParameter(
            f"can't listen at port {settings.port} of {settings.host}: {error.strerror}. Choose "
            "another one; 0 is a free port",
            param_hint="--port",
        ) from None
    with listener:
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        bound = listener.getsockname()[1]
        at = settings.url or f"http://{host}:{bound}"
        if call.json:
            print(envelope(call.command, Report(data={"url": at, "port": bound})), flush=True)
        else:
            Screen(sys.stdout).line(f"the dashboard of {config.service} is at {at}; Ctrl-C ends it")
            sys.stdout.flush()
        bound_to = replace(settings, port=bound)
        asyncio.run(serve(config, bound_to, listener, owner=who()))
    return Report(is_printed=True)
