"""`eventferry streams …`: making streams, and seeing which there are."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from eventferry.cli import completing
from eventferry.cli.call import Call, Environment, EnvironmentOption, command, connected
from eventferry.cli.report import Report, Screen


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    streams = typer.Typer(no_args_is_help=True, help="Streams: creating, listing.")
    app.add_typer(streams, name="streams")

    @command(streams, "create", examples=("eventferry streams create users-stream",))
    def create(
        call: Call,
        name: Annotated[
            str,
            typer.Argument(
                help="Such as users-stream.",
                show_default=False,
                autocompletion=completing.stream_names,
            ),
        ],
        environment: EnvironmentOption = Environment.LOCAL,
        description: Annotated[str | None, typer.Option(help="What happens in it.")] = None,
    ) -> Report:
        """Create a stream.

        Nothing happens if it is there already. The shared stream of a producing projection needs
        no creation: its first run does it.
        """
        from eventferry import sql
        from eventferry.stream import require_stream_name

        require_stream_name(name)
        config = call.config()
        with connected(config, environment) as conn:
            row = conn.execute(
                sql.query("create_owned_stream"), (name, config.service, description)
            ).fetchone()
        created = bool(row and row[0])
        what = "created" if created else "is there already"
        return Report(
            data={"stream": name, "environment": environment, "created": created},
            show=lambda screen: screen.line(f"stream {name} {what} in the {environment} store"),
        )

    @command(streams, "list", examples=("eventferry streams list --environment shared",))
    def list_(
        call: Call,
        environment: Annotated[
            Environment | None, typer.Option(help="Which store; both by default.")
        ] = None,
    ) -> Report:
        """List the streams, oldest first, with their last position."""
        config = call.config()
        chosen = [environment] if environment else list(Environment)
        if config.same_database:
            chosen = chosen[:1]
        rows = []
        for each in chosen:
            with connected(config, each) as conn:
                rows += [{"environment": each, **row} for row in _streams(conn)]

        def show(screen: Screen) -> None:
            screen.table(
                ("stream", "store", "owner", "last position", "created", "description"),
                [
                    (
                        row["name"],
                        row["environment"],
                        row["owner"],
                        row["last_position"],
                        f"{row['created_at']:%Y-%m-%d %H:%M:%S%z}",
                        row["description"],
                    )
                    for row in rows
                ],
            )

        return Report(data=rows, show=show)


def _streams(conn: Any) -> list[dict[str, Any]]:
    """The streams of a store; `last_position` is 0 where nothing was appended."""
    from psycopg.rows import class_row

    from eventferry import sql
    from eventferry.store import Stream

    with conn.cursor(row_factory=class_row(Stream)) as cursor:
        streams = cursor.execute(sql.query("streams")).fetchall()
    names = [stream.name for stream in streams]
    heads = dict(conn.execute(sql.query("heads"), (names,)).fetchall())
    return [
        {
            "name": stream.name,
            "owner": stream.owner,
            "last_position": heads.get(stream.name, 0),
            "created_at": stream.created_at,
            "description": stream.description,
        }
        for stream in streams
    ]
