"""Asking a process over HTTP how it is, as a cluster does."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

from tests.waiting import PATIENCE_S, until


@dataclass(frozen=True, slots=True)
class Answered:
    """What came back."""

    code: int
    headers: dict[str, str]
    body: bytes

    @property
    def said(self) -> dict[str, Any]:
        found = json.loads(self.body)
        assert isinstance(found, dict)
        return found


def ask(port: int, path: str, method: str = "GET", host: str = "127.0.0.1") -> Answered:
    connection = HTTPConnection(host, port, timeout=PATIENCE_S)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return Answered(answer.status, dict(answer.getheaders()), answer.read())
    finally:
        connection.close()


def until_said(port: int, path: str, code: int, status: str) -> dict[str, Any]:
    """Returns what is answered, as soon as it is this."""
    last: list[Answered] = []

    def is_so() -> bool:
        last[:] = [ask(port, path)]
        return (last[0].code, last[0].said["status"]) == (code, status)

    until(is_so, f"{path} says {code} {status}")
    return last[0].said


def port_of(process: subprocess.Popen[str]) -> int:
    """Where a process that was started with `--http …:0` listens, as its log says."""
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"answering /livez, /readyz and /metrics at port (\d+)", line):
            return int(found[1])
    raise AssertionError("it has ended, and not said where it listens")
