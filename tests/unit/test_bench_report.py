"""The tables and plots of the page on performance are made of what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import report
from eventferry.bench.conditions import SETTINGS
from tests.pages import ROOT

CONDITIONS = {
    "begun_at": "2026-11-23T22:00:00+00:00",
    "eventferry": "0.1.0",
    "python": "3.11.7",
    "psycopg": "3.3.9 (binary)",
    "postgresql": {"local": "18.4", "shared": "18.4"},
    "settings": {"local": dict.fromkeys(SETTINGS, "on"), "shared": {}},
    "is_embedded": True,
    "cpus": 2,
    "machine": "Linux",
    "rounds": 5,
    "events": 200_000,
}
APPEND = {
    "key": "a",
    "what": "append <one>",
    "unit": "events/s",
    "ours": 2_000.0,
    "rounds": 5,
    "limit_is": "bare INSERT",
    "limit": 4_000.0,
    "value": 0.5,
    "lowest": 0.4,
    "highest": 0.6,
    "target": 0.85,
    "better": "more",
    "note": "",
    "is_met": False,
}
IDLE = {
    "key": "j",
    "what": "idle",
    "unit": "transactions/s",
    "ours": 1.25,
    "rounds": 5,
    "limit_is": None,
    "limit": None,
    "value": 1.25,
    "lowest": 1.0,
    "highest": 2.0,
    "target": 2.0,
    "better": "less",
    "note": "asleep",
    "is_met": True,
}
PEER = {
    "library": "@event-driven-io/peer",
    "version": "1.2",
    "client": "pg",
    "line": "append",
    "what": "append, 1 event",
    "value": 900.0,
    "unit": "events/s",
    "limit": 1_000.0,
    "ratio": 0.9,
    "lost": None,
    "doubled": None,
    "guarantee": "once",
    "how": "append",
}
OURS = {**PEER, "library": "eventferry", "ratio": 0.8, "lost": 0, "doubled": 0}


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A copy of the page, to be written anew."""
    copy = tmp_path / "performance.md"
    copy.write_text((ROOT / "docs" / "explanation" / "performance.md").read_text())
    return copy


def write(page: Path, monkeypatch: pytest.MonkeyPatch, *, ok: bool = True) -> str:
    """The page after the tool has run."""
    bench, peers = page.with_name("bench.json"), page.with_name("peers.json")
    data = {"conditions": CONDITIONS, "figures": [APPEND, IDLE]}
    bench.write_text(json.dumps({"ok": ok, "data": data, "errors": ["lost"]}))
    peers.write_text(json.dumps([OURS, PEER]))
    arguments = ["report", str(bench), str(peers), "--page", str(page)]
    monkeypatch.setattr("sys.argv", arguments)
    report.main()
    return page.read_text()


def test_the_tables_stand_between_their_marks_and_the_rest_is_left(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = page.read_text()

    text = write(page, monkeypatch)

    assert "| a | append <one> | 2,000 events/s | 4,000: bare INSERT | 0.50 | ≥ 0.85 | no |" in text
    assert "| j | idle | 1.25 transactions/s |  |  | ≤ 2 | yes |" in text
    assert "j, idle: asleep." in text
    assert "Medians of 5 rounds, 200,000 events" in text
    assert text.split("<!-- conditions -->")[0] == before.split("<!-- conditions -->")[0]
    assert write(page, monkeypatch) == text, "once more, the same"


def test_a_peer_that_wins_a_line_is_shown_winning_it(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = write(page, monkeypatch)

    winner = "| append, 1 event | peer | **900 events/s** | **0.90** |  |  |"
    assert f"{winner}\n|  | eventferry | 900 events/s | 0.80 | 0 | 0 |" in text
    assert "| peer | 1.2 | pg | once | append |" in text


def test_the_plots_are_svg_of_all_ratios(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(page, monkeypatch)

    ours, peers = (
        ElementTree.parse(page.with_name(name)).getroot()
        for name in ("performance.svg", "performance-peers.svg")
    )
    texts = [text.text for text in ours.iter("{http://www.w3.org/2000/svg}text")]
    assert "a  append <one>" in texts
    assert "0.50" in texts
    kinds = [it.get("class") for it in peers.iter("{http://www.w3.org/2000/svg}rect")]
    assert kinds == ["theirs", "ours"]


def test_a_run_that_has_failed_makes_no_page(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = page.read_text()

    with pytest.raises(SystemExit, match="lost"):
        write(page, monkeypatch, ok=False)

    assert page.read_text() == before


def test_a_page_without_the_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="<!-- bench -->"):
        report.filled("nothing", "bench", "text")
