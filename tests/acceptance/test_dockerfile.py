"""`deploy/docker`: the linter is content, and what the image would run, runs here as a process."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.databases import Databases
from tests.deployed import Deployed
from tests.environment import REPOSITORY, require
from tests.probed import HANDLERS, SERVICE, free_port, runs_until_told

pytestmark = pytest.mark.once
DOCKERFILE = REPOSITORY / "deploy" / "docker" / "Dockerfile"
PORT = "8080"


def instructions(name: str) -> list[str]:
    """What follows an instruction, each time it stands there; continued lines are one."""
    text = DOCKERFILE.read_text().replace("\\\n", "")
    return re.findall(rf"^{name} +(.*)$", text, re.MULTILINE)


def command(name: str) -> list[str]:
    """The arguments of CMD, ENTRYPOINT or HEALTHCHECK, whose options stand before."""
    (text,) = instructions(name)
    found = json.loads(text[text.index("[") :])
    assert isinstance(found, list)
    return found


def test_the_linter_finds_nothing_to_mend() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    require(hadolint.exists(), "hadolint: make charts")
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_pip_installs_what_the_service_names(tmp_path: Path) -> None:
    """As far as that can be tried where everything is installed already."""
    (tmp_path / "requirements.txt").write_text("eventferry\n")
    (line,) = (line for line in instructions("RUN") if line.startswith("pip "))
    pip = [sys.executable, "-m", *shlex.split(line), "--dry-run", "--no-index"]
    subprocess.run(pip, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)


def test_its_worker_migrates_is_healthy_and_ends_when_told(
    databases: Databases, tmp_path: Path
) -> None:
    deployed = Deployed(tmp_path, SERVICE, HANDLERS)
    environ = {
        "EVENTFERRY_LOCAL_URL": databases.make_empty(),
        "EVENTFERRY_SHARED_URL": databases.make_empty(),
    }
    assert deployed.run("migrate", **environ) == 0, deployed.log

    port = str(free_port())
    program, *arguments = command("CMD")
    assert program == "eventferry"
    assert PORT in arguments
    (url,) = re.findall(r"http://[\w.:/]+", " ".join(command("HEALTHCHECK")))
    runs_until_told(
        deployed,
        [port if argument == PORT else argument for argument in arguments],
        environ,
        [url.replace(PORT, port), f"http://127.0.0.1:{port}/readyz"],  # ready: SIGTERM is handled
    )


def test_it_is_healthy_only_while_somebody_answers() -> None:
    """The command of the health check itself, where nobody listens."""
    python, *arguments = command("HEALTHCHECK")
    assert python == "python"
    asked = [argument.replace(PORT, str(free_port())) for argument in arguments]
    done = subprocess.run([sys.executable, *asked], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Connection refused" in done.stderr


def test_it_is_told_to_end_as_a_worker_is() -> None:
    assert instructions("STOPSIGNAL") == ["SIGTERM"]
    assert command("ENTRYPOINT") == ["tini", "--"]  # which passes it on


def test_it_runs_as_nobody_in_particular_and_owns_nothing() -> None:
    (user,) = instructions("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)  # a number: Kubernetes must see that it isn't 0
    assert not [line for line in instructions("COPY") if "--chown" in line or "--chmod" in line]


def test_its_port_is_exposed() -> None:
    assert instructions("EXPOSE") == [PORT]
