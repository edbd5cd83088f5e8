"""`eventferry dashboard` as a user runs it: a process, and where it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.waiting import PATIENCE_S

REFRESH = "200ms"
"""A test does not wait 5 s for what is new."""
LOG = "dashboard.log"


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A dashboard that runs."""

    url: str
    """As a browser on this machine reaches it, without a slash at the end."""
    folder: Path
    process: subprocess.Popen[str]

    def client(self, **options: object) -> httpx.Client:
        """A program that asks it; follows no redirect."""
        return httpx.Client(base_url=self.url, timeout=PATIENCE_S, **options)  # type: ignore[arg-type]

    @property
    def log(self) -> str:
        return (self.folder / LOG).read_text()

    def stop(self) -> int:
        """Ends it as a person does; its exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE_S)


@contextmanager
def serving(folder: Path, *options: str, **environ: str) -> Iterator[Dashboard]:
    """The dashboard of the service in a folder; it has ended when the block ends."""
    command = ["dashboard", "--port", "0", "--refresh", REFRESH, "--json", *options]
    with (
        (folder / LOG).open("a") as log,
        subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "eventferry", *command],
            cwd=folder,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "EVENTFERRY_USER": "ada"} | environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert said, (folder / LOG).read_text()
            envelope = json.loads(said)
            assert envelope["ok"], envelope
            yield Dashboard(f"http://127.0.0.1:{envelope['data']['port']}", folder, process)
        finally:
            process.kill()
