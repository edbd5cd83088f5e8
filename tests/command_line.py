"""The command line for tests: a service's folder, and the program as a user runs it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from eventferry.cli import main
from tests.waiting import PATIENCE_S

PROGRAM = (sys.executable, "-m", "eventferry")

CONFIGURATION = """
service = "users"
poll_interval = "100ms"

[producing.users-projection]
stream_name = "users-stream"

[consuming.mails-projection]
stream_names = ["users-stream"]
environment = "shared"
handler = "handlers:handle"
attempts = 1

[consuming.long-projection]
stream_names = ["users-stream"]
environment = "local"
handler = "handlers:handle_nothing"
background_process = true
"""

HANDLERS = """
from pathlib import Path

BUG = Path(__file__).with_name("bug")

def handle(event, context):
    if event.type == "Poison" and BUG.exists():
        raise ValueError("a bug in the handler")

def handle_nothing(event):
    pass
"""


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def envelope(self) -> dict[str, Any]:
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A service's folder, in which commands are given."""

    folder: Path
    local_url: str
    shared_url: str

    def write(self, configuration: str = CONFIGURATION, handlers: str = HANDLERS) -> None:
        """Its configuration and its code."""
        (self.folder / "projections.toml").write_text(configuration)
        (self.folder / "handlers.py").write_text(handlers)

    def break_handler(self) -> None:
        """From now on the handler has a bug."""
        (self.folder / "bug").touch()

    def fix_handler(self) -> None:
        """From now on it hasn't."""
        (self.folder / "bug").unlink()

    def __call__(self, *arguments: str, stdin: str = "", **environ: str) -> Done:
        """Runs a command to its end, in this process: quick, but not for what imports handlers."""
        out, err = io.StringIO(), io.StringIO()
        given = io.TextIOWrapper(io.BytesIO(stdin.encode()))
        with (
            chdir(self.folder),
            patch.dict(os.environ, self.environ | environ, clear=True),
            patch.object(sys, "stdin", given),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            code = main(arguments)
        return Done(code, out.getvalue(), err.getvalue())

    def process(self, *arguments: str, stdin: str = "", **environ: str) -> Done:
        """The same in a process of its own."""
        done = subprocess.run(
            [*PROGRAM, *arguments],
            check=False,
            cwd=self.folder,
            env=self.environ | environ,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S * 2,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    @contextmanager
    def started(self, *arguments: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
        """Runs a command beside the test; it has ended when the block ends."""
        process = subprocess.Popen(
            [*PROGRAM, *arguments],
            cwd=self.folder,
            env=self.environ | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def ready(self) -> CommandLine:
        """With its configuration, and streams in both stores."""
        self.write()
        for environment in ("local", "shared"):
            done = self("streams", "create", "users-stream", "--environment", environment)
            assert done.code == 0, done
        return self

    @property
    def environ(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if "EVENTFERRY" not in key}
        return kept | {
            "EVENTFERRY_LOCAL_URL": self.local_url,
            "EVENTFERRY_SHARED_URL": self.shared_url,
        }


def cloud_event(number: int, type_: str = "UserRegistered", **attributes: object) -> str:
    """A line for `events append`."""
    given = {
        "specversion": "1.0",
        "id": f"00000000-0000-7000-8000-{number:012}",
        "source": "users",
        "type": type_,
        "time": "2026-01-31T12:00:00.000Z",
        "datacontenttype": "application/json",
        "data": {"number": number},
    }
    return json.dumps(given | attributes)
