"""The reference names everything that there is, and nothing else."""

from __future__ import annotations

import builtins
import doctest
import importlib
import inspect
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from eventferry import _exports, embedded, sqlalchemy, starlette, testing
from eventferry.config import _shape

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
PYTHON = (REFERENCE / "python.md").read_text()

PUBLIC: dict[str, Any] = {
    name: getattr(module, name)
    for module in (_exports, embedded, sqlalchemy, starlette, testing)
    for name in module.__all__
}
CLASSES = {name: one for name, one in PUBLIC.items() if inspect.isclass(one)}
EVERY_CLASS = pytest.mark.parametrize("name", CLASSES)


def test_every_key_of_the_configuration_is_documented_with_its_default() -> None:
    text = (REFERENCE / "configuration.md").read_text()
    documented = dict(re.findall(r"^\| `(\w+)` \| (.*?) \| ", text, re.MULTILINE))
    tables = (_shape.SettingsTable, _shape.ProducingTable, _shape.ConsumingTable)
    fields = {key: field for table in tables for key, field in table.model_fields.items()}
    assert fields.keys() == documented.keys()
    for key, field in fields.items():
        if field.is_required():
            assert documented[key].endswith(", required"), key
        elif field.default not in (None, ()):
            default = re.split(r"[,;] ", documented[key])[-1].strip("`")
            assert default == as_toml(field.default), key


def as_toml(value: object) -> str:
    if isinstance(value, timedelta):
        return f'"{value.total_seconds():g}s"'
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def test_every_public_name_has_a_heading_and_no_other() -> None:
    assert sorted(re.findall(r"^### (\w+)$", PYTHON, re.MULTILINE)) == sorted(PUBLIC)


@EVERY_CLASS
def test_every_member_of_a_public_class_is_documented_and_no_other(name: str) -> None:
    section = re.split(r"^###? ", PYTHON.partition(f"\n### {name}\n")[2], flags=re.MULTILINE)[0]
    documented = re.findall(rf"^#### {name}\.(\w+)$", section, re.MULTILINE)
    for items in re.findall(
        r"^(?:Attributes|.* for asyncio.*):\n\n((?:- .*\n)+)", section, re.MULTILINE
    ):
        documented += re.findall(r"^- `(?:await |async for … in )?(\w+)", items, re.MULTILINE)

    assert sorted(documented) == sorted(members(CLASSES[name]))


def members(cls: type) -> set[str]:
    """What a class has: in its body, in its `__init__`; an error, what it has beside its base."""
    names: set[str] = set()
    for one in [cls] if is_error(cls) else cls.__mro__:
        if one.__module__.startswith("eventferry"):
            source = inspect.getsource(one)
            names |= {*vars(one), *vars(one).get("__annotations__", ())}
            names |= set(re.findall(r"^        self\.(\w+)(?:: .*)? = ", source, re.MULTILINE))
    return {name for name in names if not name.startswith("_")}


def is_error(cls: type) -> bool:
    return issubclass(cls, BaseException)


@pytest.mark.parametrize("name", PUBLIC)
def test_everything_public_has_a_docstring(name: str) -> None:
    one = PUBLIC[name]
    assert inspect.getdoc(one)
    for member in vars(one) if inspect.isclass(one) else ():
        value = inspect.getattr_static(one, member)
        if not member.startswith("_") and (inspect.isfunction(value) or hasattr(value, "fget")):
            assert value.__doc__, f"{name}.{member}"


def test_what_is_said_to_be_raised_is_an_exception() -> None:
    lists = re.findall(r"^Raises:\n\n((?:- .*\n)+)", PYTHON, re.MULTILINE)
    raised = {line for part in lists for line in part.splitlines()}
    assert len(raised) > 20
    for line in raised:
        found = re.match(r"- \[?`([\w.]+)`(?:\]\(#\w+\))?: \S", line)
        assert found, line
        module, _, name = found[1].rpartition(".")
        owner = vars(importlib.import_module(module)) if module else vars(builtins) | PUBLIC
        assert issubclass(owner[name], Exception), line


def test_every_class_of_ours_that_a_signature_names_is_documented() -> None:
    source = "".join(path.read_text() for path in (ROOT / "src" / "eventferry").rglob("*.py"))
    ours = set(re.findall(r"^class (\w+)", source, re.MULTILINE))
    code = [*re.findall(r"```python\n(.*?)```", PYTHON, re.DOTALL)]
    code += re.findall(r"^- `\w+: (.*?)`:", PYTHON, re.MULTILINE)
    named = {word for text in code if ">>>" not in text for word in re.findall(r"\w+", text)}

    assert named & ours - {"Session"} <= set(PUBLIC)  # SQLAlchemy's, where it is named


def test_the_examples_of_docstrings_work() -> None:
    tried = 0
    for name, one in CLASSES.items():
        for example in doctest.DocTestFinder().find(one, name, globs=dict(PUBLIC)):
            result = doctest.DocTestRunner().run(example)
            assert result.failed == 0, example.name
            tried += result.attempted
    assert tried == PYTHON.count("\n>>> ")
