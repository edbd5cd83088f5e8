"""Pages of the documentation: what a reader is told to write, and to run.

A file is a line with nothing but its name in backticks, and the block below it. Blocks of `sh` are
run in their order; a block of `text` is what the one before it has answered.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [
    *(
        ROOT / name
        for name in ("README.md", "CONTRIBUTING.md", "deploy/README.md", "examples/README.md")
    ),
    *sorted((ROOT / "docs").rglob("*.md")),
]


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(text: str, language: str) -> list[str]:
    """The blocks of a language, wherever they are indented."""
    pattern = rf"^( *)```{language}\n(.*?)^\1```$"
    return [found[2] for found in re.finditer(pattern, text, re.DOTALL | re.MULTILINE)]


def files(text: str) -> dict[str, str]:
    """The files that a reader is told to write, by their names."""
    return dict(re.findall(r"^`([\w/.]+)`\n```\w+\n(.*?)^```", text, re.DOTALL | re.MULTILINE))


def follow(text: str, folder: Path, programs: Path, environ: Mapping[str, str]) -> Iterator[str]:
    """Does what the text says, in a folder; gives what each block of commands has answered."""
    for name, content in files(text).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    path = os.pathsep.join([str(Path(sys.executable).parent), str(programs), os.environ["PATH"]])
    for commands in blocks(text, "sh"):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=folder,
            env={**os.environ, **environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        yield done.stdout
