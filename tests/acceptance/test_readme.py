"""The README's first two services, as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from eventferry.embedded import EmbeddedServer

README = Path(__file__).parents[2] / "README.md"
SECTION = README.read_text().split("## Your first two services")[1].split("## Read on")[0]
FILES = dict(re.findall(r"^`([\w/.]+)`\n```\w+\n(.*?)^```", SECTION, re.DOTALL | re.MULTILINE))
COMMANDS = re.findall(r"^```sh\n(.*?)^```", SECTION, re.DOTALL | re.MULTILINE)


def test_the_first_two_services_take_less_than_60_lines() -> None:
    lines = [line for text in (*FILES.values(), *COMMANDS) for line in text.splitlines() if line]
    assert 20 < len(lines) < 60


def test_the_first_two_services_work_as_they_stand(
    own_server: EmbeddedServer, tmp_path: Path
) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    environment = {
        **os.environ,
        "PGHOST": str(own_server.folder),
        "PGPORT": own_server.url().rpartition("port=")[2],
        "PGUSER": "postgres",
        "PATH": os.pathsep.join(
            [str(Path(sys.executable).parent), str(own_server.programs), os.environ["PATH"]]
        ),
    }
    output = ""
    for commands in COMMANDS:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        output = done.stdout
    assert "ada@example.org\n grace@example.org\n(2 rows)" in output


@pytest.mark.parametrize("path", re.findall(r"\]\(([\w/.-]+)\)", README.read_text()))
def test_what_the_readme_links_to_is_there(path: str) -> None:
    assert (README.parent / path).exists()
