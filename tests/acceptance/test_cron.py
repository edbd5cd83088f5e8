"""Debian's cron, with the crontab that we ship."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from tests.command_line import CommandLine
from tests.conftest import MakeService
from tests.environment import REPOSITORY, require
from tests.processes import kill, kill_all, running, working_in
from tests.services import Service, numbered
from tests.waiting import PATIENCE_S, until

pytestmark = pytest.mark.once

CRON = shutil.which("cron", path="/usr/sbin")
CRONTAB = REPOSITORY / "deploy" / "cron" / "crontab"
STREAM = "users-stream"
MINUTE_S = 60.0

CONFIGURATION = """
service = "{name}"
poll_interval = "100ms"
local_url = "{local}"
shared_url = "{shared}"

[consuming.mails]
stream_names = ["users-stream"]
environment = "local"
handler = "tests.services:record"
background_process = true
"""

# Cron as on a machine of its own: with no other crontabs than ours, and beside a cron that runs.
OF_ITS_OWN = """
mount --bind "$1/crontabs" /var/spool/cron/crontabs
mount --bind "$1/none" /etc/cron.d
mount --bind /dev/null /etc/crontab
mount -t tmpfs tmpfs /run
exec "$2" -f
"""


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """Not even by a test that has failed."""
    yield
    kill_all(tmp_path)


def deploy(service: Service, folder: Path) -> CommandLine:
    """The service, with an event to handle; its configuration is in the folder."""
    service.create_stream(STREAM)
    service.create_effects()
    service.append(STREAM, numbered(1))
    folder.mkdir()
    commands = CommandLine(folder, service.local_url, service.shared_url)
    configuration = CONFIGURATION.format(
        name=service.name, local=service.local_url, shared=service.shared_url
    )
    commands.write(configuration, handlers="")
    return commands


def crontab() -> tuple[str, str, str]:
    """What we ship: its variables, its line, and the one that a reader may take instead."""
    text = CRONTAB.read_text()
    (variables,) = re.findall(r"^PATH=.*\n", text, re.MULTILINE)
    (schedule,) = re.findall(r"^\* .*\n", text, re.MULTILINE)
    (worker,) = re.findall(r"^#(\* .*\n)", text, re.MULTILINE)
    return variables, schedule, worker


def placed(lines: str, folder: Path) -> str:
    """Lines of the crontab, with our folders for those of the example."""
    return (
        lines.replace("/srv/users/.venv/bin", str(Path(sys.executable).parent))
        .replace("/srv/users", str(folder))
        .replace("/var/log/eventferry", str(folder))
    )


@contextmanager
def cron(folder: Path, crontab: str) -> Iterator[None]:
    """A cron that knows this crontab alone."""
    require(os.geteuid() == 0, "root, to start a cron with a crontab of the test's")
    require(CRON, "cron: apt-get install cron")
    (folder / "none").mkdir()
    (folder / "crontabs").mkdir()
    (folder / "crontabs" / "root").write_text(crontab)
    (folder / "crontabs" / "root").chmod(0o600)
    own = ["unshare", "--mount", "sh", "-euc", OF_ITS_OWN, "sh", str(folder), str(CRON)]
    is_own = subprocess.run(["unshare", "--mount", "true"], check=False).returncode == 0
    process = subprocess.Popen(own if is_own else [str(CRON), "-f"])
    try:
        with nullcontext() if is_own else in_place_of_roots(folder / "crontabs" / "root"):
            yield
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@contextmanager
def in_place_of_roots(crontab: Path) -> Iterator[None]:
    """The machine's own cron, where none of the test's can be had: in a container, say."""
    before = subprocess.run(["crontab", "-l"], capture_output=True, check=False).stdout
    subprocess.run(["crontab", str(crontab)], check=True)
    try:
        yield
    finally:
        subprocess.run(["crontab", "-"], input=before, check=True)


@pytest.mark.timeout(240)
def test_the_crontab_keeps_projections_running(make_service: MakeService, tmp_path: Path) -> None:
    """Both of its lines, a service each; it takes up to a minute until cron looks."""
    users, mails = make_service("users"), make_service("mails")
    here, there = tmp_path / "users", tmp_path / "mails"
    commands = deploy(users, here)
    deploy(mails, there)
    variables, schedule, worker = crontab()
    lines = [
        f"PYTHONPATH={REPOSITORY}\n",
        f"TMPDIR={tempfile.gettempdir()}\n",  # where schedules know of each other
        placed(variables + schedule, here),
        placed(worker, there),
    ]

    with cron(tmp_path, "".join(lines)):
        for service in (users, mails):
            until(
                lambda s=service: s.recorded() == [1],  # type: ignore[misc]
                f"cron has started what {service.name} needs",
                patience_s=MINUTE_S + PATIENCE_S,
            )

    # From here on there is no cron: what comes back is not started by the next minute's.
    until(lambda: not working_in(there), "who has caught up has ended")
    kill(here, "consuming", "start", "mails")
    users.append(STREAM, numbered(1, 2))
    until(lambda: users.recorded() == [1, 2], "the killed projection is back")

    done = commands.process("schedule", "run")  # the next minute's
    assert (done.code, done.out, done.err) == (0, "", "")
    assert len(running(here, "schedule", "run")) == 1
    assert len(running(here, "consuming", "start", "mails")) == 1

    kill(here, "schedule", "run")
    until(lambda: not working_in(here), "its processes have ended with it")
    assert "projection mails" in (here / "users.log").read_text()
