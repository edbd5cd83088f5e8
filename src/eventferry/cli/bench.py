"""`eventferry bench`: how fast it is here."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from eventferry.cli.call import Call, command
from eventferry.cli.report import Report, Screen

if TYPE_CHECKING:
    from eventferry.bench.figure import Figure


def add_to(app: typer.Typer) -> None:
    """Adds the command."""

    @command(
        app,
        "bench",
        examples=("eventferry bench", "eventferry bench --only a,i --rounds 9 --json"),
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
            int, typer.Option(min=1_000, help="How many are caught up with.")
        ] = 200_000,
        scale: Annotated[
            bool, typer.Option("--scale", help="Line m too: 10,000,000 events, many minutes.")
        ] = False,
    ) -> Report:
        """Measure how fast it is on this machine.

        Each figure beside its limit: what PostgreSQL does without eventferry, measured in turn
        with it. In databases of its own, which are dropped at the end. Exit code 1 if an event was
        lost, doubled or reordered. Needs the extra `embedded`, unless URLs are given.
        """
        from eventferry.bench import FIGURES, ON_REQUEST
        from eventferry.bench.stage import staged
        from eventferry.process import interruptible

        known = {**FIGURES, **ON_REQUEST}
        wanted = [*FIGURES, *(ON_REQUEST if scale else ())]
        if only is not None:
            wanted = [key.strip() for key in only.split(",")]
            if unknown := [key for key in wanted if key not in known]:
                have = ", ".join(known)
                raise typer.BadParameter(f"there is no line {unknown[0]!r}; there are {have}")
        if shared_url and not local_url:
            raise typer.BadParameter("--shared-url goes with --local-url: give both, or none")
        urls = (local_url, shared_url or local_url) if local_url else None
        measured: list[Figure] = []
        with (
            interruptible(),
            _Progress(call, len(wanted)) as progress,
            staged(urls, rounds=rounds, events=events, say=progress.say) as stage,
        ):
            for done, key in enumerate(wanted):
                progress.begin(key, done)
                for figure in known[key](stage):
                    measured.append(figure)
                    progress.say(_line(figure))
        return _report(measured)


def _line(figure: Figure) -> str:
    limit = "" if figure.limit is None else f" of {_shown(figure.limit)}"
    return f"{figure.key}  {figure.what}: {_shown(figure.ours)}{limit} {figure.unit}"


def _shown(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.2f}"


def _report(figures: list[Figure]) -> Report:
    def show(screen: Screen) -> None:
        columns = ("", "figure", "here", "limit", "unit", "ratio", "from", "to", "target", "met")
        screen.table(columns, [_row(figure) for figure in figures], expendable=("from", "to"))

    return Report(data=[_data(figure) for figure in figures], show=show)


def _row(figure: Figure) -> tuple[str, ...]:
    sign = "≥" if figure.better == "more" else "≤"
    value = "" if figure.limit is None else _shown(figure.value)
    spread = (_shown(figure.lowest), _shown(figure.highest))
    limit = "" if figure.limit is None else _shown(figure.limit)
    met = "yes" if figure.is_met else "no"
    head = (figure.key, figure.what, _shown(figure.ours), limit, figure.unit, value)
    return (*head, *spread, f"{sign} {_shown(figure.target)}", met)


def _data(figure: Figure) -> dict[str, Any]:
    return {**asdict(figure), "is_met": figure.is_met}


class _Progress:
    """What is being measured, on standard error; with the time left, if that is a terminal."""

    def __init__(self, call: Call, total: int) -> None:
        self._screen, self._total = call.messages, total
        self._bar: Any = None

    def __enter__(self) -> Self:
        if self._screen.is_terminal:
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True), transient=True)
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
