"""A peer's process, as the driver sees it."""

from __future__ import annotations

import json
import subprocess
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any, Self

from benchmarks.peers.environment import ROOT, Installed


class PeerFailed(Exception):
    """What a peer has raised."""


class PeerProcess:
    """Runs a peer's script, and asks it to do things; see `serving.Peer` for which."""

    def __init__(self, installed: Installed) -> None:
        self.installed = installed
        self._said = TemporaryFile("w+")  # noqa: SIM115 (closed in __exit__)
        self._process = subprocess.Popen(
            installed.command,
            cwd=ROOT,
            env=installed.variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )

    def begin(self, do: str, **arguments: Any) -> None:
        """Asks, without waiting for the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do} | arguments) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Waits for it.

        Raises:
            PeerFailed: the peer has raised something, or has ended.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._said.seek(0)
            raise PeerFailed(f"{self.installed.library} has ended: {self._said.read()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerFailed(f"{self.installed.library}: {answer['error']}")
        return answer

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Asks, and waits for the answer."""
        self.begin(do, **arguments)
        return self.answer()

    def rate(self, do: str, **arguments: Any) -> tuple[int, float]:
        """How many events, and how many a second."""
        answer = self.ask(do, **arguments)
        return answer["events"], answer["events"] / answer["seconds"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()  # it has nothing to keep
        self._process.communicate()
        self._said.close()
