"""Every command has an example, a place in the reference, and the envelope."""

from __future__ import annotations

import io
import json
import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import typer

from eventferry.cli import main
from eventferry.cli.app import app
from tests.pages import PAGES, blocks, page_id

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "command-line.md"


def commands(group: Any, *above: str) -> Iterator[tuple[str, ...]]:
    """The words of each command, by walking the tree."""
    for name, one in group.commands.items():
        if hasattr(one, "commands"):
            yield from commands(one, *above, name)
        else:
            yield (*above, name)


COMMANDS = list(commands(typer.main.get_command(app)))
EVERY_COMMAND = pytest.mark.parametrize("words", COMMANDS, ids=" ".join)


NEEDED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("create", "append", "read", "start", "stop", "resume"), ("a-name",)),
    **dict.fromkeys(("delete", "reset"), ("a-name", "--yes")),
    "pause": ("a-name", "--reason", "why"),
    "skip": ("a-name", "--event", str(UUID(int=1)), "--reason", "why"),
    "unpark": ("a-name", "--all"),
    "add-stream": ("a-name", "a-stream"),
    "completion": ("bash",),
    "remove-stream": ("a-name", "a-stream", "--yes"),
}
"""What commands can't do without, by their last word."""


def run(*arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(arguments)
    return code, out.getvalue(), err.getvalue()


@EVERY_COMMAND
def test_its_help_has_an_example_that_names_it(words: tuple[str, ...]) -> None:
    code, out, _ = run(*words, "--help")

    assert code == 0
    assert f"eventferry {' '.join(words)}" in out.partition("Example:")[2]
    assert "--json" in out
    assert "--config" in out


@EVERY_COMMAND
def test_the_reference_has_it_with_all_of_its_options(words: tuple[str, ...]) -> None:
    heading = f"## eventferry {' '.join(words)}\n"
    text = REFERENCE.read_text()
    assert heading in text
    section = text.partition(heading)[2].partition("\n## ")[0]
    if words == ("consuming", "start"):  # as its twin
        section += text.partition("## eventferry producing start\n")[2].partition("\n## ")[0]

    _, out, _ = run(*words, "--help")
    options = set(re.findall(r"--[a-z-]+", out.partition("Options:")[2].partition("Example:")[0]))
    options -= {"--json", "--config", "--help"}
    assert {option for option in options if option not in section} == set()


@EVERY_COMMAND
def test_it_answers_in_the_envelope(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here, that its usage is wrong; what it answers when all is well, other tests show."""
    monkeypatch.chdir(tmp_path)

    code, out, err = run(*words, "--json", "--no-such-option")

    assert (code, err) == (2, "")
    found = json.loads(out)
    assert list(found) == ["ok", "command", "data", "errors"]
    assert (found["ok"], found["command"], found["data"]) == (False, " ".join(words), None)
    assert found["errors"][0]["type"] == "UsageError"


@EVERY_COMMAND
def test_without_a_configuration_it_says_where_it_has_looked(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if words[0] in ("init", "demo", "bench", "completion", "store"):
        pytest.skip("it needs none")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EVENTFERRY_CONFIG", raising=False)
    arguments = NEEDED.get(words[-1], ())

    code, out, err = run(*words, *arguments)
    code_json, out_json, _ = run("--json", *words, *arguments)

    assert (code, out, code_json) == (2, "", 2)
    assert err.startswith("error: there is no projections.toml")
    assert json.loads(out_json)["errors"][0]["type"] == "ConfigurationError"


def test_the_reference_knows_no_command_that_is_not_there() -> None:
    documented = re.findall(r"^## eventferry (.+)$", REFERENCE.read_text(), re.MULTILINE)

    assert sorted(documented) == sorted(" ".join(words) for words in COMMANDS)


@EVERY_COMMAND
def test_its_examples_can_be_parsed(words: tuple[str, ...]) -> None:
    _, out, _ = run(*words, "--help")
    for line in out.partition("Example:")[2].splitlines():
        for part in line.split("|"):
            found = shlex.split(part)
            if found[:1] == ["eventferry"]:
                # --help is eager: everything before it has been understood, or it is wrong usage
                assert run(*found[1:], "--help")[0] == 0, part


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_the_commands_of_the_docs_can_be_parsed(page: Path) -> None:
    text = page.read_text()
    lines = [line for block in blocks(text, "sh") for line in block.splitlines()]
    found = re.findall(r"(?:^|[(&|] ?) *(eventferry [^|&)#\n]+)", "\n".join(lines), re.MULTILINE)
    prose = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)
    spoken = re.findall(r"`(eventferry [^`]+)`", prose)
    found += [
        words for words in spoken if not re.search(r"…|\[|[A-Z]{3}", words)
    ]  # no placeholders
    for words in found:
        assert run(*shlex.split(words)[1:], "--help")[0] == 0, words


def test_its_version() -> None:
    code, out, _ = run("--version")

    assert code == 0
    assert re.fullmatch(r"eventferry \d+\.\d+\.\d+\n", out)


def test_without_a_command_it_shows_its_help() -> None:
    code, _, err = run()

    assert code == 2
    assert err.startswith("Usage: eventferry")
