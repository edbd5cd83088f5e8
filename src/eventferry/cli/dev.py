"""`eventferry dev`: a service on a laptop, with everything that it needs."""

from __future__ import annotations

import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eventferry.cli.call import Call, command, seconds
from eventferry.cli.dashboard import PORT as DASHBOARD_PORT
from eventferry.cli.logs import LogLevel, LogLevelOption
from eventferry.cli.report import Report, Screen, envelope
from eventferry.cli.store import login_of, show_login

if TYPE_CHECKING:
    from eventferry.dev.session import Session


def add_to(app: typer.Typer) -> None:
    """Adds the command."""

    @command(app, "dev", examples=("eventferry dev", "eventferry dev --shared-port 31578"))
    def dev(
        call: Call,
        shared_port: Annotated[
            int | None,
            typer.Option(
                min=1, max=65_535, help="TCP port of 127.0.0.1, for clients and other services."
            ),
        ] = None,
        folder: Annotated[
            Path | None,
            typer.Option(help="Where data is kept; else .eventferry beside the configuration."),
        ] = None,
        dashboard_port: Annotated[
            int,
            typer.Option(
                min=0, max=65_535, help="Of the dashboard, or a free one where it is taken."
            ),
        ] = DASHBOARD_PORT,
        no_dashboard: Annotated[
            bool, typer.Option("--no-dashboard", help="Only the worker.")
        ] = False,
        grace_s: Annotated[
            float,
            typer.Option(
                "--grace",
                metavar="DURATION",
                parser=seconds,
                help="What a worker has to end its batch, before it is killed.",
            ),
        ] = "10s",  # type: ignore[assignment]
        log_level: LogLevelOption = LogLevel.INFO,
    ) -> Report:
        """Run this service on a laptop.

        An embedded PostgreSQL with its databases, a worker for all of its projections, which is
        replaced when code changes, and the dashboard. Ctrl-C ends all of it but the data. A server
        that URLs name is used instead, or the one of `eventferry store start`. Needs the extra
        `dev`.
        """
        from eventferry.dev import reload, session
        from eventferry.process import deaf_in_the_end, interruptible

        said = session.given(call.config_path)
        if shared_port and "shared_url" in said.urls:
            raise typer.BadParameter(
                "the shared store is elsewhere (shared_url, EVENTFERRY_SHARED_URL): "
                "leave --shared-port out"
            )
        home = (folder or said.folder / session.FOLDER).absolute()
        reload.require()
        port = None if no_dashboard else _free(dashboard_port)
        with (
            interruptible(),
            session.opened(said, home, shared_port) as opened,
            deaf_in_the_end(),
        ):
            _show(call, opened, home, port)
            reload.Reload(
                folder=said.folder,
                start=lambda: opened.start_worker(log_level.value),
                start_dashboard=None if port is None else lambda: opened.start_dashboard(port),
                server=opened.server,
                grace_s=grace_s,
                say=lambda text: call.messages.line(f"eventferry dev: {text}", "cyan"),
            ).run()
        return Report(is_printed=True)


def _free(port: int) -> int:
    """The port, or a free one, if somebody has it: another service's `dev`, say."""
    for wanted in (port, 0):
        with suppress(OSError), socket.create_server(("127.0.0.1", wanted)) as found:
            return int(found.getsockname()[1])
    return port


def _show(call: Call, opened: Session, home: Path, port: int | None) -> None:
    """What there is, and how to connect to it: as one object, or for people."""
    service_folder = opened.config.folder
    data_folder = opened.address and opened.address.folder
    login = login_of(opened.address)
    dashboard = port and f"http://127.0.0.1:{port}"
    if call.json:
        data = {
            "service": opened.config.service,
            **opened.urls,
            "folder": data_folder,
            "created": opened.created,
            "dashboard_url": dashboard,
            **login,
        }
        print(envelope(call.command, Report(data=data)), flush=True)
        return
    screen = Screen(sys.stdout)
    if data_folder is not None:
        whose = "PostgreSQL" if opened.server else "the PostgreSQL of `eventferry store`"
        screen.line(f"{whose} runs; its data is kept in {data_folder}")
    if opened.created:
        screen.line(f"created: {', '.join(opened.created)}")
    for key, url in opened.urls.items():
        screen.line(f"{key.removesuffix('_url')} store: {url}")
    if login["port"] is not None:
        show_login(screen, login)
    elif opened.server is not None and "EVENTFERRY_SHARED_URL" in opened.variables:
        screen.line("for graphical clients and other services: --shared-port 31578 opens a port")
    if opened.variables:
        screen.line(f"for other terminals: . {home}/env.sh; for tests: . {home}/test-env.sh")
    if dashboard:
        screen.line(f"dashboard: {dashboard}")
    screen.line(f"a worker runs, a new one when code in {service_folder} changes, until Ctrl-C")
    sys.stdout.flush()
