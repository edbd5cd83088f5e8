"""A tutorial, followed as a person does: files are written, commands given, answers compared.

In the order of the page: a file (as in `pages.py`) is written, or written anew; `sh` is typed into
the first terminal; `text` is what that has answered; `console` is another terminal, of which the
last command goes on, and is waited for until it has said what stands there. In what is said, `…`
stands for anything.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.waiting import PATIENCE_S, until

_STEP = re.compile(r"(?:^`([\w/.]+)`\n)?^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SIZE = struct.pack("HHHH", 50, 100, 0, 0)
_STYLE = re.compile(r"\x1b\[[\d;]*m")
_END = "that-is-all"


class Terminal:
    """A shell, and all that it has said, without colours."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.said = ""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, _SIZE)
        self.shell = subprocess.Popen(
            ["bash"],
            cwd=folder,
            env={**os.environ, "TERM": "xterm", **environ, "PATH": path},
            stdin=subprocess.PIPE,
            stdout=theirs,
            stderr=theirs,
            text=True,
            start_new_session=True,
        )
        os.close(theirs)
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def type(self, commands: str) -> None:
        assert self.shell.stdin is not None
        self.shell.stdin.write(commands)
        self.shell.stdin.flush()

    def answer(self, commands: str) -> str:
        """What commands say."""
        before = len(self.said)
        self.type(f"{commands}echo {_END}\n")
        until(lambda: _END in self.said[before:])
        return self.said[before:].removesuffix(f"{_END}\n")

    def end(self) -> None:
        """Ctrl-C, and it is closed."""
        os.killpg(self.shell.pid, signal.SIGINT)
        assert self.shell.stdin is not None
        self.shell.stdin.close()
        self.shell.wait(PATIENCE_S)
        self._listener.join(PATIENCE_S)
        os.close(self._ours)

    def _listen(self) -> None:
        while True:
            try:
                found = os.read(self._ours, 65_536)
            except OSError:  # nobody is at the other end any more
                return
            self.said += _STYLE.sub("", found.decode().replace("\r", ""))


@dataclass(slots=True)
class Tutorial:
    """A page that is followed in a folder."""

    text: str
    folder: Path
    environ: Mapping[str, str]
    terminals: list[Terminal] = field(default_factory=list)

    def follow(self) -> None:
        """Does what the page says, from its first step to its last."""
        answer = ""
        first = self._terminal()
        for file, language, content in _STEP.findall(self.text):
            if file:
                (self.folder / file).parent.mkdir(exist_ok=True)
                (self.folder / file).write_text(content)
            elif language == "sh":
                answer = first.answer(content)
            elif language == "text":
                assert _pattern(content).fullmatch(answer), f"{content}\nnot:\n{answer}"
            elif language == "console":
                self._other(content)

    def end(self) -> None:
        """Ends what runs in the terminals, the last first."""
        while self.terminals:
            self.terminals.pop().end()

    def _other(self, content: str) -> None:
        lines = content.splitlines(keepends=True)
        typed = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        shown = _pattern("".join(lines[len(typed) :]))
        terminal = self._terminal()
        terminal.type("".join([*typed[:-1], f"exec {typed[-1]}"]))
        until(lambda: shown.match(terminal.said) or terminal.shell.poll() is not None)
        assert shown.match(terminal.said), f"{content}\nnot:\n{terminal.said}"

    def _terminal(self) -> Terminal:
        self.terminals.append(Terminal(self.folder, self.environ))
        return self.terminals[-1]


def _pattern(shown: str) -> re.Pattern[str]:
    return re.compile(".*?".join(map(re.escape, shown.split("…"))), re.DOTALL)
