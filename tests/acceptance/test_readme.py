"""The README's first two services, as they stand there."""

from __future__ import annotations

from pathlib import Path

from eventferry.embedded import EmbeddedServer
from tests.pages import ROOT, blocks, files, follow

README = (ROOT / "README.md").read_text()
SECTION = README.split("## Your first two services")[1].split("## Read on")[0]


def test_the_first_two_services_take_less_than_60_lines() -> None:
    written = (*files(SECTION).values(), *blocks(SECTION, "sh"))
    assert 20 < len([line for text in written for line in text.splitlines() if line]) < 60


def test_the_first_two_services_work_as_they_stand(
    own_server: EmbeddedServer, tmp_path: Path
) -> None:
    environ = {
        "PGHOST": str(own_server.folder),
        "PGPORT": own_server.url().rpartition("port=")[2],
        "PGUSER": "postgres",
    }
    *_, output = follow(SECTION, tmp_path, own_server.programs, environ)
    assert "ada@example.org\n grace@example.org\n(2 rows)" in output
