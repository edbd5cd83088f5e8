"""`eventferry projections retry`: setting failed projections to run, and seeing them do it.

    set to run, woken ──> followed ──> at the head that the streams had ──> fine
                             │ └────> failed again, time is up ──> exit code 1
                             └ nobody picks it up ──> run here ──> …

To run them here is safe beside any worker: the checkpoint's lock decides.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from eventferry.cli.call import Call, who
from eventferry.cli.report import FAILED, Problem, Report, Screen, in_one_line

if TYPE_CHECKING:
    from eventferry.config import Config
    from eventferry.pools import Pools
    from eventferry.projection import Projection
    from eventferry.status import ProjectionStatus

LOOK_S = 0.1
"""Between two looks at a projection that is followed."""
GRACE_POLLS = 3
"""Poll intervals in which a worker should have picked up what was retried."""

Verdict = Literal["done", "failed", "paused", "picked up", "not picked up"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """How a projection was when it was retried."""

    positions: dict[str, int | None]
    targets: dict[str, int]
    """By stream: the last position it had, which the projection has to get to."""


async def retry(
    call: Call,
    config: Config,
    chosen: list[Projection],
    *,
    named: bool,
    wait_s: float | None,
    reason: str | None = None,
) -> Report:
    """Retries the projections that have failed; `wait_s`: follows them for this long."""
    from eventferry.pools import Pools, needs_shared
    from eventferry.registry import Registry
    from eventferry.status import status

    # to set them to run, takes the local store alone
    needed = wait_s is not None and any(map(needs_shared, chosen))
    async with Pools(config, size=4, shared_is="required" if needed else "unused") as pools:
        found = [] if wait_s is None else await status(pools, chosen)
        before = {s.name: _start(s) for s in found}
        names = [p.name for p in chosen]
        retried = set(
            await Registry(pools.local).retry(
                names, who=who(), service=config.service, reason=reason
            )
        )
        if wait_s is not None:  # an earlier retry may still be on its way
            retried |= {s.name for s in found if s.failure is not None}
        projections = [p for p in chosen if p.name in retried]
        if not projections:
            return _nothing_failed(chosen, named=named)
        if wait_s is None:
            return _report(dict.fromkeys(retried), show=_set_to_run(projections))
        call.messages.line(f"following {', '.join(p.name for p in projections)}")
        following = Following(call, config, pools, before)
        return await following.until_done(projections, wait_s)


def _start(found: ProjectionStatus) -> Start:
    return Start(
        positions={s.stream: s.position for s in found.streams},
        targets={s.stream: s.last_position or 0 for s in found.streams},
    )


def verdict(start: Start, now: ProjectionStatus) -> Verdict:
    """What has become of a retried projection."""
    if now.state == "failed":
        return "failed"
    if now.state == "paused":
        return "paused"
    positions = {s.stream: s.position for s in now.streams}
    moved = positions != start.positions
    there = all((positions[stream] or 0) >= target for stream, target in start.targets.items())
    if there and (moved or now.failure is None):
        return "done"
    if moved or now.state in ("running", "retrying") or now.failure is None:
        return "picked up"
    return "not picked up"


@dataclass(slots=True)
class Following:
    """Projections on their way after a retry."""

    call: Call
    config: Config
    pools: Pools
    starts: dict[str, Start]

    async def until_done(self, projections: list[Projection], wait_s: float) -> Report:
        """Follows them until each is done or has failed, or time is up."""
        results: dict[str, tuple[Verdict, ProjectionStatus]] = {}
        try:
            async with asyncio.timeout(wait_s):
                await self._follow(projections, results)
        except TimeoutError:
            pass
        return _followed([p.name for p in projections], results, wait_s)

    async def _follow(
        self,
        projections: list[Projection],
        results: dict[str, tuple[Verdict, ProjectionStatus]],
    ) -> None:
        loop = asyncio.get_running_loop()
        grace = loop.time() + GRACE_POLLS * self.config.poll_interval.total_seconds()
        left = projections
        while True:
            await self._look(left, results)
            left = [p for p in left if results[p.name][0] in ("picked up", "not picked up")]
            if not left:
                return
            unwanted = [p for p in left if results[p.name][0] == "not picked up"]
            if unwanted and loop.time() > grace:
                await self._run_here(unwanted)
                await self._look(unwanted, results)
                for p in unwanted:  # whoever ran it: there was nothing left to do
                    outcome, found = results[p.name]
                    if outcome == "not picked up":
                        results[p.name] = ("done", found)
            else:
                await asyncio.sleep(LOOK_S)

    async def _look(
        self,
        projections: list[Projection],
        results: dict[str, tuple[Verdict, ProjectionStatus]],
    ) -> None:
        from eventferry.status import status

        for found in await status(self.pools, projections):
            results[found.name] = (verdict(self.starts[found.name], found), found)

    async def _run_here(self, projections: list[Projection]) -> None:
        from eventferry.program import chosen, stop_on_signals
        from eventferry.worker import Worker

        names = [p.name for p in projections]
        self.call.messages.line(f"no worker runs {', '.join(names)}: running here")
        config = self.call.config(import_handlers=True)
        worker = Worker(config=config, projections=chosen(config, names))
        stop_on_signals(worker.stop)
        running = asyncio.create_task(worker.run_until_idle())
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:  # time is up: the batch is finished, then it ends
            worker.stop()
            await running
            raise


# ---- what is said


def _nothing_failed(chosen: list[Projection], *, named: bool) -> Report:
    names = ", ".join(p.name for p in chosen)
    text = f"nothing to retry: {names} had not failed" if named else "nothing had failed"
    return _report({}, show=text)


def _set_to_run(projections: list[Projection]) -> str:
    names = ", ".join(p.name for p in projections)
    return f"set to run: {names}. --wait follows; `eventferry projections status` shows them"


def _report(retried: dict[str, Any], *, show: str) -> Report:
    return Report(
        data=[{"projection": name, "result": result} for name, result in sorted(retried.items())],
        show=lambda screen: screen.line(show),
    )


def _followed(
    names: list[str], results: dict[str, tuple[Verdict, ProjectionStatus]], wait_s: float
) -> Report:
    outcomes = {name: results[name][0] if name in results else "not picked up" for name in names}
    found = tuple(
        problem
        for name in names
        if (problem := _problem(name, outcomes[name], results.get(name), wait_s))
    )

    def show(screen: Screen) -> None:
        for name, outcome in outcomes.items():
            if outcome == "done":
                screen.line(f"{name}: caught up")

    report = _report(
        {n: "late" if o.endswith("picked up") else o for n, o in outcomes.items()}, show=""
    )
    return replace(report, show=show, problems=found, code=FAILED if found else 0)


def _problem(
    name: str,
    outcome: Verdict,
    result: tuple[Verdict, ProjectionStatus] | None,
    wait_s: float,
) -> Problem | None:
    if outcome == "done":
        return None
    if outcome == "failed" and result and result[1].failure:
        failure = result[1].failure
        event = (
            f" at {failure.event_type} {failure.event_id} ({failure.stream}, position "
            f"{failure.position})"
            if failure.event_id
            else ""
        )
        return Problem(
            "ProjectionFailed", f"{name} failed again{event}: {in_one_line(failure.error)}"
        )
    if outcome == "paused":
        message = f"{name} is paused; to let it go on: eventferry projections resume {name}"
        return Problem("ProjectionPaused", message)
    lag = result[1].lag if result else None
    behind = "" if lag is None else f", {lag:,} events behind"
    message = f"{name} is not done after {wait_s:g} s{behind}. It goes on if a worker runs it"
    return Problem("Late", message)
