"""The how-tos that are whole services: each is followed to its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventferry.embedded import EmbeddedServer
from tests.databases import Databases
from tests.pages import PAGES, blocks, files, follow, page_id

WHOLE = [
    page
    for page in PAGES
    if page.parent.name == "howto" and files(page.read_text())
    if page.stem != "local-environment"  # in test_dev, as it brings its own server
]


def test_there_are_some() -> None:
    assert len(WHOLE) >= 3


@pytest.mark.parametrize("page", WHOLE, ids=page_id)
def test_who_follows_a_howto_gets_what_it_shows(
    page: Path, databases: Databases, server: EmbeddedServer, tmp_path: Path
) -> None:
    text = page.read_text()
    environ = {
        "EVENTFERRY_LOCAL_URL": databases.make_empty(),
        "EVENTFERRY_SHARED_URL": databases.make_empty(),
    }
    *_, output = follow(text, tmp_path, server.programs, environ)

    (shown,) = blocks(text, "text")
    assert output.endswith(shown), output
