"""`eventferry check`: what is wrong, and what helps; for probes, alerts and people on call.

configuration, with its handlers ─> each store: reachable, migrated, whole
                                         └─> the projections, and what holds them back
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from eventferry.cli.call import Call, Environment, command, connected, seconds, url_of
from eventferry.cli.failure import failure
from eventferry.cli.finding import Finding, Limits, findings, who_runs
from eventferry.cli.report import FAILED, Problem, Report, Screen, in_one_line

if TYPE_CHECKING:
    from eventferry.config import Config
    from eventferry.status import ProjectionStatus

MAX_OPEN_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A store that can be used."""

    environment: str
    name: str
    """As messages call it."""
    schema: int
    """The number of its last migration."""
    open: int
    """Connections to its server, of whomever."""
    allowed: int
    """How many the server takes."""
    most: int
    """How many a worker opens at most."""


@dataclass(slots=True)
class Checked:
    """What the check has come to."""

    findings: list[Finding]
    stores: list[Store] = field(default_factory=list)
    statuses: list[ProjectionStatus] = field(default_factory=list)
    unusable: int = 0
    """The exit code of the first part that could not be looked at; 0: all could."""


def add_to(app: typer.Typer) -> None:
    """Adds the command."""

    @command(
        app,
        "check",
        examples=("eventferry check", "eventferry check --max-lag 1000 --max-age 60s --json"),
    )
    def check(
        call: Call,
        max_lag: Annotated[
            int | None,
            typer.Option(
                min=0,
                max=100_000,  # status.LAG_LIMIT: a greater one would never be exceeded
                help="Events that a projection may be behind, at most 100000.",
                show_default=False,
            ),
        ] = None,
        max_age_s: Annotated[
            float | None,
            typer.Option(
                "--max-age",
                metavar="DURATION",
                parser=seconds,
                help="How long an event may wait for a projection.",
            ),
        ] = None,
        max_open_s: Annotated[
            float | None,
            typer.Option(
                "--max-open",
                metavar="DURATION",
                parser=seconds,
                help="How long an append may stay open; 60s by default.",
            ),
        ] = None,
        strict: Annotated[bool, typer.Option("--strict", help="Warnings are errors.")] = False,
    ) -> Report:
        """Say what is wrong, and what helps.

        The stores with their connections, each projection with what runs it, then a line a
        finding: the configuration and its handlers, both stores, all projections, and appends that
        stay open.

        The exit code is 1 if something has failed, stands still or is further behind than allowed,
        2 if the configuration is wrong or a store can't be used.
        """
        from eventferry.config import load

        config = load(call.config_path)
        open_s = MAX_OPEN_S if max_open_s is None else max_open_s
        limits = Limits(open_s=open_s, lag=max_lag, age_s=max_age_s)
        notes = (
            Finding(level="warning", type="Configuration", message=note) for note in config.notes
        )
        checked = Checked([*notes])
        for environment in _stores(config):
            _look(checked, partial(_of_store, config, environment))
        if any(store.environment == "local" for store in checked.stores):
            _look(checked, partial(_of_projections, config, limits))
        return _report(config, checked, strict=strict, as_json=call.json)


def _look(checked: Checked, part: Callable[[Checked], None]) -> None:
    """Looks at a part; where that fails, others go on."""
    try:
        part(checked)
    except Exception as error:
        failed = failure(error)
        checked.findings += [
            Finding(level="error", type=p.type, message=p.message) for p in failed.problems
        ]
        checked.unusable = max(checked.unusable, failed.code)


def _stores(config: Config) -> list[Environment]:
    return [Environment.LOCAL] if config.same_database else list(Environment)


def _of_store(config: Config, environment: Environment, checked: Checked) -> None:
    """What there is to say of a store that can be used.

    Raises:
        EventFerryError: it can't.
    """
    from eventferry import sql
    from eventferry.connection import shown
    from eventferry.integrity import flaws
    from eventferry.migration import require_own
    from eventferry.worker import most_connections

    name = shown(url_of(config, environment), environment)
    service = config.service if environment is Environment.LOCAL else None
    with connected(config, environment) as conn:
        require_own(conn, name, environment.value, service)
        checked.findings += [
            Finding(
                level="error", type="Integrity", message=f"{name}: {flaw.what}", remedy=flaw.remedy
            )
            for flaw in flaws(conn)
        ]
        schema = max(row[0] for row in conn.execute(sql.query("migrations")))
        allowed, open_ = conn.execute(sql.query("connections")).fetchone() or (0, 0)
    store = Store(
        environment=environment.value,
        name=name,
        schema=schema,
        open=open_,
        allowed=allowed,
        most=most_connections(config)[environment.value],
    )
    checked.stores.append(store)
    if store.most > allowed:
        message = f"{name} takes {allowed} connections, and a worker may open {store.most}"
        remedy = "raise max_connections, or give the worker a smaller --concurrency"
        checked.findings.append(
            Finding(level="warning", type="Connections", message=message, remedy=remedy)
        )


def _of_projections(config: Config, limits: Limits, checked: Checked) -> None:
    from eventferry.pools import Pools
    from eventferry.status import status

    async def statuses() -> list[ProjectionStatus]:
        async with Pools(config, size=2, shared_is="optional") as pools:
            return await status(pools, list(config.projections.values()))

    checked.statuses = asyncio.run(statuses())
    checked.findings += findings(checked.statuses, limits)


def _report(config: Config, checked: Checked, *, strict: bool, as_json: bool) -> Report:
    found = checked.findings
    errors = [finding for finding in found if strict or finding.level == "error"]

    def show(screen: Screen) -> None:
        for store in checked.stores:
            screen.line(
                f"{store.name}: schema {store.schema:04}, {store.open} of {store.allowed} "
                f"connections open; a worker opens up to {store.most}"
            )
        for status in checked.statuses:
            names = ", ".join(f"{r.command} {r.host}:{r.pid}" for r in status.runners)
            run = f"run by {names}" if names else f"run by nobody now: {who_runs(status)}"
            screen.line(f"{status.name}: {status.kind}, {status.mode}, {run}")
        for finding in found:
            remedy = f" -> {finding.remedy}" if finding.remedy else ""
            style = "bold red" if finding.level == "error" else "yellow"
            screen.line(f"{finding.level}: {in_one_line(finding.message)}{remedy}", style)
        if not found:
            stores, projections = len(_stores(config)), len(config.projections)
            screen.line(f"all is well: {stores} store(s), {projections} projection(s)")

    return Report(
        data={
            "findings": found,
            "stores": checked.stores,
            "projections": [
                {
                    "name": s.name,
                    "mode": s.mode,
                    "state": s.state,
                    "lag": s.lag,
                    "behind_s": s.behind_s,
                    "runners": [f"{r.command} {r.host}:{r.pid}" for r in s.runners],
                }
                for s in checked.statuses
            ],
        },
        show=show,
        # people read them above, among the others
        problems=tuple(Problem(e.type, e.message) for e in errors) if as_json else (),
        code=max(checked.unusable, FAILED if errors else 0),
    )
