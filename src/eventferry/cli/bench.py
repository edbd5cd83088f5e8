"""`eventferry bench`: how fast it is here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from eventferry.cli.call import Call, command
from eventferry.cli.failure import failure
from eventferry.cli.report import FAILED, WRONG, Problem, Report, Screen

if TYPE_CHECKING:
    from eventferry.bench.conditions import Conditions
    from eventferry.bench.figure import Figure
    from eventferry.bench.stage import Stage


def add_to(app: typer.Typer) -> None:
    """Adds the command."""

    @command(
        app,
        "bench",
        examples=(
            "eventferry bench",
            "eventferry bench --rounds 1 --events 1000",
            "eventferry bench --only a,i --rounds 9 --json",
        ),
    )
    def bench(
        call: Call,
        local_url: Annotated[
            str | None,
            typer.Option(help="Any database of the server of local stores; else an embedded one."),
        ] = None,
        shared_url: Annotated[
            str | None, typer.Option(help="The same for shared stores; else as --local-url.")
        ] = None,
        only: Annotated[
            str | None, typer.Option(metavar="LINES", help="Some lines of the table: a,d,i.")
        ] = None,
        rounds: Annotated[int, typer.Option(min=1, help="Of which the median counts.")] = 5,
        events: Annotated[
            int,
            typer.Option(min=1_000, help="How many are caught up with; fewer make all smaller."),
        ] = 200_000,
        scale: Annotated[
            bool, typer.Option("--scale", help="Line m too: 10,000,000 events, many minutes.")
        ] = False,
    ) -> Report:
        """Measure how fast it is on this machine.

        Each figure beside its limit: what PostgreSQL does without eventferry, measured in turn
        with it. In databases of its own, which are dropped at the end. Exit code 1 if an event was
        lost, doubled or reordered, or something could not be measured; a target that is missed
        here is said, and no failure. Needs the extra `embedded`, unless URLs are given.
        """
        from eventferry.bench import FIGURES, ON_REQUEST
        from eventferry.bench.conditions import Conditions
        from eventferry.bench.stage import BenchUnavailable, staged
        from eventferry.process import interruptible

        lines = _chosen(
            {**FIGURES, **ON_REQUEST}, only, default=[*FIGURES, *(ON_REQUEST if scale else ())]
        )
        if shared_url and not local_url:
            raise typer.BadParameter("--shared-url goes with --local-url: give both, or none")
        urls = (local_url, shared_url or local_url) if local_url else None
        try:
            with (
                interruptible(),
                _Progress(call, len(lines)) as progress,
                staged(urls, rounds=rounds, events=events, say=progress.say) as stage,
            ):
                measured = _Measured(Conditions.of(stage))
                for done, (key, line) in enumerate(lines.items()):
                    progress.begin(key, done)
                    measured.measure(stage, key, line)
        except BenchUnavailable as error:
            return Report(problems=(Problem(type(error).__name__, str(error)),), code=WRONG)
        return measured.report()


def _chosen(
    known: Mapping[str, _Line], only: str | None, default: Iterable[str]
) -> dict[str, _Line]:
    wanted = [key.strip() for key in only.split(",")] if only is not None else default
    for key in wanted:
        if key not in known:
            raise typer.BadParameter(f"there is no line {key!r}; there are {', '.join(known)}")
    return {key: known[key] for key in wanted}


_Line = Callable[["Stage"], Iterator["Figure"]]


@dataclass(slots=True)
class _Measured:
    """What has come of it so far."""

    conditions: Conditions
    figures: list[Figure] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def measure(self, stage: Stage, key: str, line: _Line) -> None:
        """A line of the table; what goes wrong with it is its own, and the others go on.

        Its figures are kept when it has ended: some lines look last at what has come of them.
        """
        measured = []
        try:
            with closing(line(stage)) as figures:  # type: ignore[type-var]
                for figure in figures:
                    measured.append(figure)
                    stage.say(_said(figure))
        except Exception as error:
            for problem in failure(error).problems:
                self.problems.append(replace(problem, message=f"line {key}: {problem.message}"))
                stage.say(self.problems[-1].message)
        else:
            self.figures += measured

    def report(self) -> Report:
        def show(screen: Screen) -> None:
            columns = ("", "figure", "here", "limit", "ratio", "from", "to", "target", "met")
            rows = [_row(figure) for figure in self.figures]
            screen.table(columns, rows, expendable=("from", "to"), folded="figure")
            for figure in self.figures:
                if figure.note:
                    screen.line(f"{figure.key}: {figure.note}")
            screen.line(str(self.conditions))

        figures = [{**asdict(figure), "is_met": figure.is_met} for figure in self.figures]
        return Report(
            data={"conditions": self.conditions, "figures": figures},
            show=show,
            problems=tuple(self.problems),
            code=FAILED if self.problems else 0,
        )


def _said(figure: Figure) -> str:
    limit = "" if figure.limit is None else f" of {_shown(figure.limit)}"
    return f"{figure.key}  {figure.what}: {_shown(figure.ours)}{limit} {figure.unit}"


def _shown(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.2f}"


def _row(figure: Figure) -> tuple[str, ...]:
    what = figure.what if figure.unit == "events/s" else f"{figure.what} ({figure.unit})"
    limit = ratio = lowest = highest = ""
    if figure.limit is not None:
        limit, ratio = _shown(figure.limit), f"{figure.value:.2f}"
        lowest, highest = f"{figure.lowest:.2f}", f"{figure.highest:.2f}"
    target = f"≥ {figure.target:.2f}" if figure.better == "more" else f"≤ {figure.target:g}"
    met = "yes" if figure.is_met else "no"
    return figure.key, what, _shown(figure.ours), limit, ratio, lowest, highest, target, met


class _Progress:
    """What is being measured, on standard error; with a bar, if that is a terminal."""

    def __init__(self, call: Call, total: int) -> None:
        self._screen, self._total = call.messages, total
        self._bar: Any = None

    def __enter__(self) -> Self:
        if self._screen.is_terminal:
            from rich import progress
            from rich.console import Console

            self._bar = progress.Progress(
                progress.SpinnerColumn(),
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                progress.TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=self._total)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, key: str, done: int) -> None:
        """A line of the table comes next."""
        if self._bar is not None:
            self._bar.update(self._task, description=f"line {key}", completed=done)

    def say(self, text: str) -> None:
        """Something is known."""
        if self._bar is not None:
            self._bar.console.print(text, highlight=False)
        else:
            self._screen.line(text)
