"""Each peer's own environment: what is installed there, and how its script is run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parent.parent
ENVIRONMENTS: Final = HERE / ".environments"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A library, in the versions that are measured."""

    library: str
    version: str
    script: str
    """Beside this file."""
    pip: Sequence[str] = ()
    npm: Sequence[str] = ()
    in_source_tree: bool = False
    """Whether it is eventferry: it needs no environment."""

    @property
    def folder(self) -> Path:
        return ENVIRONMENTS / self.library.rpartition("/")[2]

    def install(self) -> None:
        """Makes its environment, unless one with just this is there.

        Raises:
            subprocess.CalledProcessError: a package can't be installed.
        """
        wanted = "\n".join([*self.pip, *self.npm])
        said = self.folder / "installed.txt"
        if self.in_source_tree or (said.exists() and said.read_text() == wanted):
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        if self.pip:
            run = (sys.executable, "-m", "venv", str(self.folder / "venv"))
            subprocess.run(run, check=True)
            _quietly(self.python, "-m", "pip", "install", "--disable-pip-version-check", *self.pip)
        if self.npm:
            (self.folder / "package.json").write_text('{"private": true}')
            install = ("install", "--no-audit", "--no-fund", "--save-exact")
            _quietly("npm", *install, *self.npm, folder=self.folder)
        said.write_text(wanted)

    @property
    def python(self) -> str:
        return sys.executable if self.in_source_tree else str(self.folder / "venv/bin/python")

    @property
    def command(self) -> list[str]:
        """What starts its script, in `folder`."""
        if self.script.endswith(".mjs"):
            return ["node", str(HERE / self.script)]
        return [self.python, "-m", f"benchmarks.peers.{self.script.removesuffix('.py')}"]

    @property
    def variables(self) -> dict[str, str]:
        """Its process's environment."""
        return os.environ | {"PYTHONPATH": str(ROOT), "PEER_FOLDER": str(self.folder)}


def _quietly(*command: str, folder: Path | None = None) -> None:
    """Shows what a command says only where it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(done.stdout, done.stderr, file=sys.stderr)
        done.check_returncode()
