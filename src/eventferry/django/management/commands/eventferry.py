"""`manage.py eventferry …`: the whole command line, under Django."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from eventferry.cli import main


class Command(BaseCommand):
    """Passes its arguments on, and the exit code back."""

    help = "eventferry's command line; `manage.py eventferry --help` lists its commands."

    def run_from_argv(self, argv: Sequence[str]) -> None:
        """What manage.py calls: without a parser of Django's, which knows none of the options."""
        try:
            code = main([*_without_django(argv[2:])])
        finally:
            connections.close_all()
        sys.exit(code)

    def print_help(self, prog_name: str, subcommand: str) -> None:
        """`manage.py help eventferry`."""
        main(["--help"])

    def add_arguments(self, parser: Any) -> None:
        """`call_command("eventferry", "worker", "--once")`"""
        parser.add_argument("arguments", nargs=argparse.REMAINDER)

    def handle(self, *_: Any, arguments: Sequence[str], **_options: Any) -> None:
        """The same."""
        if code := main(arguments):
            raise CommandError(f"eventferry {' '.join(arguments)} has failed", returncode=code)


def _without_django(arguments: Iterable[str]) -> Iterator[str]:
    """The arguments, but for those that Django itself has heeded by now."""
    rest = iter(arguments)
    for argument in rest:
        if argument in ("--settings", "--pythonpath"):
            next(rest, None)
        elif not argument.startswith(("--settings=", "--pythonpath=")):
            yield argument
