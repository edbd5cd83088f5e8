"""The tutorial, from its first command to its last, as it stands there."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventferry import server_folder
from eventferry.dev.server import PORT
from tests.environment import require
from tests.pages import ROOT, blocks
from tests.tutorial import Tutorial

PAGE = (ROOT / "docs/tutorial/two-services.md").read_text()


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not pytest's tmp_path: as root, PostgreSQL runs as a user who may not enter it.
    folder = Path(tempfile.mkdtemp(prefix="eft-"))
    folder.chmod(0o711)
    yield folder
    if store := server_folder.running(folder / "data/eventferry"):
        store.stop()
    shutil.rmtree(folder, ignore_errors=True)


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_each_command_is_followed_by_what_one_sees_or_by_another_one() -> None:
    assert len(blocks(PAGE, "text")) >= len(blocks(PAGE, "sh")) - 1


@pytest.mark.once
def test_who_follows_the_tutorial_gets_what_it_shows(folder: Path) -> None:
    require(is_free(PORT), f"a free port {PORT}, where the store of the tutorial is to be")
    here = folder / "services"
    here.mkdir()
    environ = {
        "XDG_DATA_HOME": str(folder / "data"),
        "EVENTFERRY_LOCAL_URL": "",
        "EVENTFERRY_SHARED_URL": "",
        "PYTEST_ADDOPTS": "-p no:asyncio",  # which our own tests need, and warns
    }
    tutorial = Tutorial(PAGE, here, environ)
    try:
        tutorial.follow()
    finally:
        tutorial.end()
