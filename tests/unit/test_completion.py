"""A shell completes commands, options and names; a real bash, others as their scripts ask."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from eventferry.cli import main
from tests.command_line import CONFIGURATION, PROGRAM

COMPLETE = """
COMP_WORDS=(eventferry {words}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
$(complete -p eventferry | sed -E 's/.*-F ([^ ]+).*/\\1/') eventferry
printf '%s\\n' "${{COMPREPLY[@]}}"
"""

MORE = """
[consuming.log-projection]
stream_names = ["users-stream", "jobs-stream"]
queue = "logs"
"""


@pytest.fixture(scope="module")
def script() -> str:
    """What is to stand in ~/.bashrc."""
    out = io.StringIO()
    with redirect_stdout(out):
        assert main(["completion", "bash"]) == 0
    return out.getvalue()


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """With `eventferry` on the path."""
    programs = tmp_path / "bin"
    programs.mkdir()
    script = programs / "eventferry"
    script.write_text(f'#!/bin/sh\nexec {shlex.join(PROGRAM)} "$@"\n')
    script.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if "EVENTFERRY" not in name}
    return kept | {"PATH": os.pathsep.join([str(programs), os.environ["PATH"]])}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A service's. Its configuration is not right: no handler, no URLs."""
    (tmp_path / "projections.toml").write_text(CONFIGURATION + MORE)
    return tmp_path


Completed = Callable[..., list[str]]


@pytest.fixture
def completed(folder: Path, environ: dict[str, str], script: str) -> Completed:
    """What bash makes of TAB behind the last one of the words."""

    def completed(*words: str) -> list[str]:
        done = subprocess.run(
            ["bash", "--norc", "-c", script + COMPLETE.format(words=shlex.join(words))],
            cwd=folder,
            env=environ,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        return done.stdout.split()

    return completed


ALL = ["users-projection", "mails-projection", "long-projection", "log-projection"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("consuming", "start", ""), ALL[1:]),
        (("consuming", "start", "lo"), ["long-projection", "log-projection"]),
        (("producing", "stop", ""), ALL[:1]),
        (("projections", "status", ""), ALL),
        (("projections", "retry", "mails-projection", "lo"), ALL[2:]),
        (("projections", "retry", "mails-projection", ""), [ALL[0], *ALL[2:]]),
        (("projections", "add-stream", "log-projection", ""), ["users-stream", "jobs-stream"]),
        (("events", "read", "j"), ["jobs-stream"]),
        (("worker", "--queue", ""), ["domain-events", "logs"]),
        (("worker", "--log-level", "w"), ["warning"]),
        (("worker", "--back"), ["--background"]),
        (("cons",), ["consuming"]),
        (("consuming", ""), ["start", "stop"]),
        (("--config", "elsewhere.toml", "projections", "status", ""), ["other"]),
        (("projections", "status", "--config", "elsewhere.toml", ""), ["other"]),
    ],
    ids=" ".join,
)
def test_bash_completes(
    folder: Path, completed: Completed, words: tuple[str, ...], found: list[str]
) -> None:
    (folder / "elsewhere.toml").write_text("[consuming.other]")

    assert completed(*words) == found


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"this is no TOML",
        b"consuming = 3",
        b"[consuming]\na = 3",
        b"[consuming.a]\nqueue = 3\nstream_names = 3",
        b"\xff\xfe",
    ],
)
def test_it_is_silent_where_the_configuration_lacks_or_is_broken(
    folder: Path, completed: Completed, content: bytes | None
) -> None:
    file = folder / "projections.toml"
    file.write_bytes(content) if content is not None else file.unlink()

    assert completed("worker", "--queue", "") == []
    assert completed("events", "read", "") == []


def test_a_shell_that_asks_wrongly_gets_nothing(folder: Path, environ: dict[str, str]) -> None:
    for instruction in ("complete_bash", "complete_nothing", "x"):
        done = asked(folder, environ | {"_EVENTFERRY_COMPLETE": instruction})
        assert "Traceback" not in done.stderr


def asked(folder: Path, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        PROGRAM, cwd=folder, env=environ, capture_output=True, text=True, check=False
    )


def test_zsh_and_fish_show_what_a_name_is(folder: Path, environ: dict[str, str]) -> None:
    line = {"_TYPER_COMPLETE_ARGS": "eventferry consuming start log"}
    fish = {"_EVENTFERRY_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}

    zsh = asked(folder, environ | line | {"_EVENTFERRY_COMPLETE": "complete_zsh"})
    assert '"log-projection":"consuming users-stream, jobs-stream"' in zsh.stdout
    assert asked(folder, environ | line | fish).stdout.strip() == (
        "log-projection\tconsuming users-stream, jobs-stream"
    )
    assert (zsh.returncode, zsh.stderr) == (0, "")


@pytest.mark.parametrize(
    ("shell", "word"), [("bash", "complete -o"), ("zsh", "compdef"), ("fish", "complete --command")]
)
def test_each_shell_has_its_script(
    capsys: pytest.CaptureFixture[str], shell: str, word: str
) -> None:
    assert main(["completion", shell]) == 0

    script = capsys.readouterr().out
    assert word in script
    assert "_EVENTFERRY_COMPLETE" in script


def test_a_completion_imports_no_driver(folder: Path, environ: dict[str, str]) -> None:
    program = """
import atexit, sys
from eventferry.cli import main
atexit.register(lambda: print({"psycopg", "orjson", "rich"} & set(sys.modules)))
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=environ
        | {
            "_EVENTFERRY_COMPLETE": "complete_bash",
            "COMP_WORDS": "eventferry events read ",
            "COMP_CWORD": "3",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["users-stream", "jobs-stream", "set()"]
