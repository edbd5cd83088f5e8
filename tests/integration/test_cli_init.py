"""`eventferry init`: what it writes works at once, and it overwrites nothing."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from eventferry.cli import main
from eventferry.cli.init import FILES

HERE_ONLY = {key: value for key, value in os.environ.items() if "EVENTFERRY" not in key}


def init(*arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(["init", *arguments])
    return code, out.getvalue(), err.getvalue()


def python(folder: Path, *arguments: str, **environ: str) -> str:
    """What a program of Python says in a folder, if it ends well."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=HERE_ONLY | environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "mail"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_what_it_writes_can_be_tested_and_loaded(here: Path, eventferry_server_url: str) -> None:
    code, out, err = init()

    assert (code, err) == (0, "")
    assert sorted(path.name for path in here.iterdir()) == sorted(FILES)
    said, *after = out.splitlines()
    assert said.startswith("service mail: wrote projections.toml, handlers.py")
    assert said.endswith("test_handlers.py here. What is next:")
    assert [line.split()[0] for line in after] == ["pip", "eventferry", "."]
    tested = python(
        here,
        *("-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio"),
        EVENTFERRY_TEST_URL=eventferry_server_url,
    )
    assert "3 passed" in tested
    loaded = "from eventferry import load; config = load(); print(config.service, config.notes)"
    urls = {f"EVENTFERRY_{which}_URL": f"postgresql:///{which}" for which in ("LOCAL", "SHARED")}
    assert python(here, "-c", loaded, **urls) == "mail ()\n"


@pytest.mark.once
def test_what_it_writes_passes_a_strict_type_checker(here: Path) -> None:
    init()

    python(here, "-m", "mypy", "--strict", "--cache-dir", os.devnull, ".")


@pytest.mark.parametrize("taken", [*FILES, "pyproject.toml"])
def test_it_overwrites_nothing_and_leaves_nothing_half_done(here: Path, taken: str) -> None:
    (here / taken).write_text("[tool.eventferry]\n")

    code, out, err = init()

    assert (code, out) == (2, "")
    assert f"{taken} is there already" in err
    assert [path.name for path in here.iterdir()] == [taken]
    assert (here / taken).read_text() == "[tool.eventferry]\n"


def test_what_can_t_be_written_leaves_nothing_half_done(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventferry.cli.init.FILES", (*FILES, "no-such-folder/file"))

    code, _, err = init()

    assert code != 0
    assert "no-such-folder" in err
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("folder", "service"),
    [
        ("Mail Service", "mail-service"),
        ("2nd.Mail_Service--", "nd-mail_service"),
        ("日本", "service"),
        ("m" * 80, "m" * 40),
    ],
)
def test_the_folder_s_name_becomes_the_service_s(here: Path, folder: str, service: str) -> None:
    code, out, _ = init("--folder", folder, "--json")

    assert code == 0
    data = json.loads(out)["data"]
    assert (data["service"], data["folder"]) == (service, str(here / folder))
    assert f'service = "{service}"' in (here / folder / "projections.toml").read_text()
    assert data["next"][0].startswith("cd ")


def test_the_name_can_be_given(here: Path) -> None:
    code, out, _ = init("--service", "boilerplate-mail", "--json")

    assert (code, json.loads(out)["data"]["files"]) == (0, list(FILES))
    assert 'service = "boilerplate-mail"' in (here / "projections.toml").read_text()


@pytest.mark.parametrize("name", ["Mail", "mail.service", "-", "m" * 57, "a--b"])
def test_a_name_that_no_stream_can_have_is_refused(here: Path, name: str) -> None:
    code, _, err = init("--service", name)

    assert code == 2
    assert "can't name a service and its stream" in err
    assert list(here.iterdir()) == []
