"""`eventferry store`: the databases of the shared store, for all services of a laptop."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eventferry.cli.call import Call, command
from eventferry.cli.report import FAILED, Problem, Report, Screen

if TYPE_CHECKING:
    from eventferry.server_folder import Address, RunningServer

URL_VARIABLE = "EVENTFERRY_SHARED_URL"
FolderOption = Annotated[
    Path | None,
    typer.Option(help="Where its data is kept; else in this user's folder for data."),
]


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    group = typer.Typer(
        no_args_is_help=True, help="The shared store of all services on this machine."
    )
    app.add_typer(group, name="store")

    @command(
        group,
        "start",
        examples=(
            "eventferry store start",
            "eventferry store start --url postgresql://localhost/event-store",
        ),
    )
    def start(
        _: Call,
        port: Annotated[
            int | None,
            typer.Option(min=1, max=65_535, help="Of 127.0.0.1.", show_default="31578"),
        ] = None,
        folder: FolderOption = None,
        url: Annotated[
            str | None, typer.Option(help="A server that is there; else EVENTFERRY_SHARED_URL.")
        ] = None,
    ) -> Report:
        """Start an embedded PostgreSQL with event-store and event-store_test.

        It stays when the command has ended; `eventferry store stop` stops it. Where a URL says
        that there is a server, only the databases that it lacks are created.
        """
        if url is not None and (folder or port):
            raise typer.BadParameter("--url names a server; --folder and --port start one")
        if folder is None and port is None:
            url = url or os.environ.get(URL_VARIABLE)
        return _created_on(url) if url else _started(_folder(folder), port)

    @command(group, "stop", examples=("eventferry store stop",))
    def stop(_: Call, folder: FolderOption = None) -> Report:
        """Stop the embedded PostgreSQL that `store start` has started.

        Its data stays. Nothing happens if it does not run.
        """
        from eventferry.server_folder import running

        found = running(_folder(folder))
        if found is not None:
            found.stop()
        said = "stopped" if found else "it does not run"
        return Report(
            data={"stopped": found is not None, "folder": str(_folder(folder))},
            show=lambda screen: screen.line(f"{said}: {_folder(folder)}"),
        )

    @command(
        group, "status", examples=("eventferry store status", "eventferry store status --json")
    )
    def status(_: Call, folder: FolderOption = None) -> Report:
        """Say whether it runs, and how to connect.

        The exit code is 1 if it does not.
        """
        from eventferry.server_folder import running

        found = running(_folder(folder))
        if found is None:
            message = f"no store runs in {_folder(folder)}. Start it: `eventferry store start`"
            return Report(problems=(Problem("NotRunning", message),), code=FAILED)
        return _running(found, started=False, created=())


def _folder(folder: Path | None) -> Path:
    from eventferry.dev.server import store_folder

    return (folder or store_folder()).absolute()


def _created_on(url: str) -> Report:
    from eventferry.dev.database import create_missing
    from eventferry.dev.server import SHARED_STORES, migrated
    from eventferry.errors import StoreUnavailable, redacted

    try:
        created = migrated(url, create_missing(url, *SHARED_STORES))
    except StoreUnavailable as error:
        raise StoreUnavailable(
            f"{error}. (Without --url and {URL_VARIABLE}, an embedded PostgreSQL is started)"
        ) from error

    def show(screen: Screen) -> None:
        for name in SHARED_STORES:
            screen.line(f"{name}: {'created' if name in created else 'there already'}")

    return Report(
        data={"server": redacted(url), "databases": list(SHARED_STORES), "created": created},
        show=show,
    )


def _started(folder: Path, port: int | None) -> Report:
    from eventferry.dev.database import create_missing
    from eventferry.dev.server import PORT, SHARED_STORES, migrated, server_in
    from eventferry.server_folder import running

    found = running(folder)
    started = found is None
    if found is None:
        server_in(folder, port or PORT).start(stays=True)
        found = running(folder)
        assert found is not None
    elif port not in (None, found.address.port):
        message = (
            f"the store in {folder} runs already, on port {found.address.port}: "
            "`eventferry store stop` first"
        )
        return Report(problems=(Problem("RunsAlready", message),), code=FAILED)
    url = found.address.url()
    return _running(
        found, started=started, created=migrated(url, create_missing(url, *SHARED_STORES))
    )


def _running(found: RunningServer, *, started: bool, created: Sequence[str]) -> Report:
    from eventferry.dev.server import SHARED_STORES

    urls = {name: found.address.url(name, tcp=True) for name in SHARED_STORES}

    def show(screen: Screen) -> None:
        verb = "runs now" if started else "runs"
        screen.line(f"the store {verb}; its data is kept in {found.folder.path}")
        if created:
            screen.line(f"created: {', '.join(created)}")
        for name, url in urls.items():
            screen.line(f"{name}: {url}")
        show_login(screen, login_of(found.address))

    return Report(
        data={
            "folder": str(found.folder.path),
            "pid": found.pid,
            "started": started,
            "created": created,
            "urls": urls,
            **login_of(found.address),
        },
        show=show,
    )


def login_of(address: Address | None) -> dict[str, Any]:
    """What graphical clients ask for; None: of a server without a TCP port."""
    from eventferry.server_folder import HOST, SUPERUSER

    if address is None or address.port is None:
        return dict.fromkeys(("host", "port", "user", "password"))
    return {
        "host": HOST,
        "port": address.port,
        "user": SUPERUSER,
        "password": address.password,
    }


def show_login(screen: Screen, login: Mapping[str, Any]) -> None:
    """The same, for people."""
    fields = ", ".join(f"{key} {value}" for key, value in login.items())
    screen.line(f"for graphical clients: {fields}")
