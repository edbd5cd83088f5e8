"""What the newcomer sees: the story, line by line; on a terminal, the flow of events below it.

On anything else than a terminal: plain lines, at most 25 of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.syntax import Syntax
from rich.text import Text

ACTS = 4


class Screen:
    """Tells the story to a console."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._begun = ""  # of the plain line
        self.is_live = console.is_terminal and not console.is_dumb_terminal

    def showing(self, picture: RenderableType) -> AbstractContextManager[object]:
        """Keeps a picture below the story, which is drawn again several times a second."""
        if not self.is_live:
            return nullcontext()
        return Live(picture, console=self._console, refresh_per_second=8, redirect_stderr=False)

    def headline(self, text: str) -> None:
        if self.is_live:
            self._console.print(Text(text, style="bold"))
        else:
            self._line(text)

    def act(self, number: int, text: str, *, joined: bool = False) -> None:
        """An act begins; `joined`: of plain lines, what is said next goes into this one."""
        if self.is_live:
            title = Text.assemble((f"Act {number} of {ACTS}", "bold cyan"), "  ", (text, "bold"))
            self._console.print(Group(Text(), title))
        elif joined:
            self._begun = f"Act {number}: {text}: "
        else:
            self._line(f"Act {number}: {text}")

    def commands(self, *commands: tuple[str, str, str], joined: bool = False) -> None:
        """Command lines, each with the service in whose folder it is run, and a remark.

        The remarks are for terminals. `joined`: as in `act`.
        """
        if not self.is_live:
            line = "  " + "   ".join(f"{service}$ {command}" for service, command, _ in commands)
            if joined:
                self._begun = f"{line}: "
            else:
                self._line(line)
            return
        for service, command, remark in commands:
            prompt = (f"  {service}$ ", "green")
            comment = f"   # {remark}" if remark else ""
            self._console.print(Text.assemble(prompt, (command, "bold"), (comment, "dim")))

    def explain(self, text: str) -> None:
        """What a newcomer wants to know; on terminals only."""
        if self.is_live:
            self._console.print(Padding(Text(text, style="italic dim"), (0, 0, 0, 2)))

    def output(self, lines: Sequence[str]) -> None:
        """What a command has printed."""
        if not self.is_live:
            self._line(f"  {' · '.join(lines)}")
        for line in lines if self.is_live else ():
            self._console.print(Padding(Text(line, style="red"), (0, 0, 0, 4)))

    def say(self, text: str, *, style: str = "") -> None:
        """A line of the story."""
        if self.is_live:
            self._console.print(Padding(Text(text, style=style), (0, 0, 0, 2)))
        else:
            self._line(text if self._begun else f"  {text}")

    def code(self, source: str) -> None:
        """Lines of Python."""
        if self.is_live:
            syntax = Syntax(
                source.rstrip(), "python", theme="ansi_dark", background_color="default"
            )
            self._console.print(Padding(syntax, (0, 0, 0, 4)))
        else:
            for line in filter(str.strip, source.splitlines()):
                self._line(f"    {line}")

    def change(self, removed: str, added: str) -> None:
        """A line of Python that has been replaced."""
        for sign, line, style in (("-", removed, "red"), ("+", added, "green")):
            if self.is_live:
                self._console.print(Text(f"    {sign} {line.strip()}", style=style))
            else:
                self._line(f"    {sign} {line.strip()}")

    def verdict(self, numbers: Sequence[tuple[str, int]], *, is_clean: bool) -> None:
        """The numbers that the demo is about."""
        if not self.is_live:
            self._line(", ".join(f"{name} {number:,}" for name, number in numbers))
            return
        style = "bold green" if is_clean else "bold red"
        parts = [part for name, n in numbers for part in (f"{name} ", (f"{n:,}", style), "   ")]
        self._console.print(Padding(Text.assemble(*parts), (0, 0, 0, 2)))

    def _line(self, text: str) -> None:
        begun, self._begun = self._begun, ""
        self._console.file.write(f"{begun}{text}\n")
        self._console.file.flush()
