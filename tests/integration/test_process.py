"""Processes of ours end with us, even if we are killed."""

from __future__ import annotations

import os
import subprocess
import sys
from select import select

import pytest

from eventferry.process import KILLED, SUPERVISED

PARENT = """
import sys, time
from pathlib import Path
from eventferry.process import popen
arguments = [sys.executable, "-c", sys.argv[1]]
child = popen(arguments, folder=Path(), output=sys.stdout, script=sys.argv[2])
print(child.pid, flush=True)
time.sleep(600)
"""
HEARS = "import time; print('ready', flush=True); time.sleep(600)"
DEAF = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); {HEARS}"
IN_A_SECOND = KILLED.replace("left=10", "left=1")


@pytest.mark.parametrize(("child", "script"), [(HEARS, SUPERVISED), (DEAF, IN_A_SECOND)])
def test_a_child_ends_with_a_killed_parent_also_if_it_does_not_hear(
    child: str, script: str
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, child, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        said = {parent.stdout.readline().strip() for _ in range(2)}
        (pid,) = said - {"ready"}
        watched = os.pidfd_open(int(pid))
        parent.kill()
    try:
        assert select([watched], [], [], 10)[0], "it has ended"
    finally:
        os.close(watched)
