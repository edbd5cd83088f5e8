"""What the documentation shows can be loaded and compiled, and its links lead somewhere."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from textwrap import dedent

import pytest

from eventferry import load
from tests.pages import PAGES, ROOT, blocks, page_id

URLS = {
    "EVENTFERRY_LOCAL_URL": "postgresql://db/local",
    "EVENTFERRY_SHARED_URL": "postgresql://db/shared",
}
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=page_id)


@EVERY_PAGE
def test_its_configuration_can_be_loaded(page: Path, tmp_path: Path) -> None:
    for text in blocks(page.read_text(), "toml"):
        is_pyproject = "tool" in tomllib.loads(text)
        is_fragment = not is_pyproject and "service" not in tomllib.loads(text)
        file = tmp_path / ("pyproject.toml" if is_pyproject else "projections.toml")
        file.write_text(f'service = "boilerplate"\n{text}' if is_fragment else text)

        load(file, environ=URLS, import_handlers=False)


@EVERY_PAGE
def test_its_python_and_its_json_can_be_read(page: Path) -> None:
    for text in blocks(page.read_text(), "python"):
        if ">>>" not in text and page.name != "python.md":  # tested in test_reference
            compile(dedent(text), page_id(page), "exec")
    for text in blocks(page.read_text(), "json"):
        json.loads(text)


@EVERY_PAGE
def test_its_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not link.startswith("https://"):
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


@EVERY_PAGE
def test_the_tests_that_it_names_are_there(page: Path) -> None:
    for path, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page.read_text()):
        assert (ROOT / path).exists(), path
        assert not name or f"def {name}(" in (ROOT / path).read_text(), f"{path}::{name}"


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_index_names_every_page() -> None:
    """All but the decisions, which have an index of their own."""
    docs = ROOT / "docs"
    linked = set(re.findall(r"\]\(([\w/.-]+)[)#]", (docs / "README.md").read_text()))
    pages = {str(page.relative_to(docs)) for page in docs.rglob("*.md")} - {"README.md"}
    assert {page for page in pages if not page.startswith("adr/0")} <= linked


def test_the_index_of_decisions_names_every_one() -> None:
    decisions = ROOT / "docs" / "adr"
    linked = re.findall(
        r"^\| \[\d+\]\((.*?)\)", (decisions / "README.md").read_text(), re.MULTILINE
    )
    assert linked == sorted(page.name for page in decisions.glob("0*.md"))
