"""`eventferry completion`: what makes a shell complete commands, options and names."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from eventferry.cli.call import Call, command
from eventferry.cli.report import Report

PROGRAM = "eventferry"
VARIABLE = "_EVENTFERRY_COMPLETE"
"""Set by a shell that asks how the line may go on."""


class Shell(StrEnum):
    """A shell that can be helped."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def add_to(app: typer.Typer) -> None:
    """Adds the command."""

    @command(
        app,
        "completion",
        examples=(
            "source <(eventferry completion bash)",
            "source <(eventferry completion zsh)",
            "eventferry completion fish | source",
        ),
    )
    def completion(
        _call: Call, shell: Annotated[Shell, typer.Argument(show_default=False)]
    ) -> Report:
        """Print what makes a shell complete.

        Commands, options, and the names in the configuration: projections, streams, queues. Put
        your shell's line into ~/.bashrc, ~/.zshrc (after compinit), ~/.config/fish/config.fish.
        """
        from typer._completion_shared import get_completion_script

        script = get_completion_script(prog_name=PROGRAM, complete_var=VARIABLE, shell=shell)
        return Report(
            data={"shell": shell, "script": script}, show=lambda screen: screen.line(script)
        )
