"""`eventferry migrate`: makes databases stores, and brings older stores up to date."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from eventferry.cli.call import Call, Environment, command, url_of
from eventferry.cli.report import FAILED, Problem, Report, Screen

if TYPE_CHECKING:
    from eventferry.config import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A database to migrate."""

    kind: Environment
    url: str
    service: str | None


def add_to(app: typer.Typer) -> None:
    """Adds the command."""

    @command(
        app,
        "migrate",
        examples=(
            "eventferry migrate",
            "eventferry migrate --url postgresql://localhost/users --kind local --service users",
        ),
    )
    def migrate(
        call: Call,
        local: Annotated[bool, typer.Option("--local", help="Only the service's own.")] = False,
        shared: Annotated[bool, typer.Option("--shared", help="Only the shared store.")] = False,
        url: Annotated[
            str | None, typer.Option(help="Another database, without a configuration.")
        ] = None,
        kind: Annotated[Environment | None, typer.Option(help="With --url: what it is.")] = None,
        service: Annotated[
            str | None, typer.Option(help="With --url: whose local store it is.")
        ] = None,
    ) -> Report:
        """Make or upgrade the stores.

        Both of the service's, unless one is named. Safe at any time, also while everything runs,
        and several at once. The exit code is 1 if a store is not as the migrations have made it:
        a trigger disabled, a sequence behind its data.
        """
        if url is None and (kind or service):
            raise typer.BadParameter("--kind and --service go with --url")
        if url is not None:
            return _migrated([_given(url, kind, service, local or shared)])
        return _migrated(_configured(call.config(), local=local, shared=shared))


def _given(url: str, kind: Environment | None, service: str | None, chosen: bool) -> Target:
    if chosen or kind is None:
        raise typer.BadParameter("--url goes with --kind local --service NAME, or --kind shared")
    if not url.startswith(("postgresql://", "postgres://")):  # not shown: it may hold a password
        raise typer.BadParameter("--url must begin with postgresql://")
    if (kind is Environment.LOCAL) != (service is not None):
        raise typer.BadParameter("a local store needs --service NAME, a shared one has none")
    return Target(kind=kind, url=url, service=service)


def _configured(config: Config, *, local: bool, shared: bool) -> list[Target]:
    chosen = [
        environment
        for environment, wanted in ((Environment.LOCAL, local), (Environment.SHARED, shared))
        if wanted or not (local or shared)
    ]
    if config.same_database:  # one store that is both: the service's own
        chosen = [Environment.LOCAL]
    return [
        Target(
            kind=environment,
            url=url_of(config, environment),
            service=config.service if environment is Environment.LOCAL else None,
        )
        for environment in chosen
    ]


def _migrated(targets: list[Target]) -> Report:
    from eventferry.errors import redacted
    from eventferry.migration import migrate

    done, problems = [], []
    for target in targets:
        applied = migrate(target.url, kind=target.kind.value, service=target.service)
        done.append((target, redacted(target.url), applied))
        problems += _flaws(target)

    def show(screen: Screen) -> None:
        for target, url, applied in done:
            what = ", ".join(applied) or "up to date"
            screen.line(f"{target.kind} store {url}: {what}")

    return Report(
        data=[
            {"store": target.kind, "url": url, "service": target.service, "applied": applied}
            for target, url, applied in done
        ],
        show=show,
        problems=tuple(problems),
        code=FAILED if problems else 0,
    )


def _flaws(target: Target) -> list[Problem]:
    """What a store is not as its migrations have made it, or must stay so."""
    import psycopg

    from eventferry.connection import options, shown, translated
    from eventferry.integrity import flaws

    store = shown(target.url, target.kind)
    with translated(store), psycopg.connect(target.url, **options("migrate")) as conn:
        return [
            Problem("Integrity", f"{store}: {flaw.what} -> {flaw.remedy}") for flaw in flaws(conn)
        ]
