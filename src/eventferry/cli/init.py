"""`eventferry init`: the files that a service begins with, in `starting/`."""

from __future__ import annotations

import re
import shlex
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from eventferry.cli.call import Call, command
from eventferry.cli.report import Report, Screen

PLACEHOLDER = "SERVICE"
FILES = (
    "projections.toml",
    "handlers.py",
    "tables.sql",
    "create_tables.py",
    "test_handlers.py",
)


def add_to(app: typer.Typer) -> None:
    """Adds the command."""

    @command(
        app, "init", examples=("eventferry init", "eventferry init --folder mail --service mail")
    )
    def init(
        _call: Call,
        folder: Annotated[
            Path, typer.Option(help="Where; made if it is not there.", file_okay=False)
        ] = Path(),
        service: Annotated[
            str | None, typer.Option(help="The service's name; else that of the folder.")
        ] = None,
    ) -> Report:
        """Begin a service.

        Writes a configuration, a handler with its table, and a test of it that runs at once.
        Overwrites nothing.
        """
        name = service or _name_of(folder)
        _require_name(name)
        _write(folder, name)
        after = _next(folder, name)

        def show(screen: Screen) -> None:
            where = "here" if folder == Path() else f"in {folder}"
            screen.line(f"service {name}: wrote {', '.join(FILES)} {where}. What is next:")
            for line in after:
                screen.line(f"  {line}")

        data = {"service": name, "folder": folder.absolute(), "files": FILES, "next": after}
        return Report(data=data, show=show)


def _name_of(folder: Path) -> str:
    """The folder's name, as far as a service and its stream can have it."""
    words = re.sub(r"[^a-z0-9_]+", "-", folder.absolute().resolve().name.lower())
    return re.sub(r"^[^a-z]+", "", words)[:40].rstrip("-") or "service"


def _require_name(name: str) -> None:
    from eventferry.stream import check_stream_name

    if check_stream_name(f"{name}-stream") is not None:
        raise typer.BadParameter(
            f"{name!r} can't name a service and its stream {name}-stream: give --service with "
            "lower-case letters, digits, underscores and single hyphens, a letter first, such as "
            "mail"
        )


def _write(folder: Path, name: str) -> None:
    """All of the files, or none.

    Raises:
        typer.BadParameter: one of them is there.
        OSError: one can't be written.
    """
    from eventferry.config_file import nearest

    taken = [str(folder / file) for file in FILES if (folder / file).exists()]
    configured = nearest(folder.absolute())
    if not taken and configured is not None and configured.parent == folder.absolute():
        taken = [str(folder / configured.name)]
    if taken:
        raise typer.BadParameter(
            f"{', '.join(taken)} is there already, and nothing is overwritten: begin in another "
            "folder, with --folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    try:
        for file in FILES:
            text = files("eventferry.cli").joinpath("starting", file).read_text("utf-8")
            with (folder / file).open("x", encoding="utf-8") as target:
                written.append(folder / file)
                target.write(text.replace(PLACEHOLDER, name))
    except BaseException:
        for path in written:
            path.unlink()
        raise


def _next(folder: Path, name: str) -> list[str]:
    there = "" if folder == Path() else f"cd {shlex.quote(str(folder))} && "
    stream = f"python create_tables.py && eventferry streams create {name}-stream"
    return [
        f'{there}pip install "eventferry[dev,testing]" && pytest',
        "eventferry dev",
        f"{there}. .eventferry/env.sh && {stream}  # in another terminal",
    ]
