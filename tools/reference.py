"""Writes docs/reference/python.md: reference.md.jinja, filled with signatures and docstrings.

    python -m tools.reference            writes it
    python -m tools.reference --check    exits 1 and shows a diff if it is out of date

The source is read, not imported. What has no docstring, or no type, is an error.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import griffe
import jinja2

from tools.async_to_sync import ROOT, brought_up_to_date

TEMPLATE = ROOT / "tools" / "reference.md.jinja"
TARGET = "docs/reference/python.md"
WIDTH = 88
"""Of the longest line of code that is read without scrolling."""

PACKAGE = griffe.load(
    "eventferry",
    search_paths=[ROOT / "src"],
    docstring_parser="google",
    docstring_options={"returns_multiple_items": False},
)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing, exit 1 on a difference"
    )
    return 0 if brought_up_to_date(TARGET, page(), check=parser.parse_args().check) else 1


def page() -> str:
    """The whole reference."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    for each in (public, declaration, signature, usage, linked, one_line):
        environment.filters[each.__name__] = each
    return environment.from_string(TEMPLATE.read_text()).render(found=found)


def found(name: str) -> Any:
    """What `eventferry.name` stands for, wherever it comes from."""
    one = PACKAGE[name]
    return one.final_target if one.is_alias else one


def public(one: Any) -> list[Any]:
    """The members that a user may touch, in the order of the source."""
    return [member for name, member in one.members.items() if not name.startswith("_")]


def declaration(one: Any) -> str:
    """An attribute with its type, and its default."""
    parameter = {p.name: p for p in one.parent.parameters}.get(one.name)
    type_, value = one.annotation, None
    if "class-attribute" in one.labels:  # of a dataclass, or an enum
        value = parameter.default if parameter else one.value
    elif type_ is None and parameter and str(one.value) == one.name:  # self.stream = stream
        type_ = parameter.annotation
    if type_ is None and value is None:
        raise TypeError(f"{one.path} needs a type")
    typed = f"{one.name}: {plain(type_)}" if type_ else str(one.name)
    return f"{typed} = {plain(value)}" if value else typed


def signature(one: Any) -> str:
    """How it is called: in a line, or with a line for each parameter."""
    words: list[str] = []
    for parameter in one.parameters:
        word = f"{parameter.name}: {plain(parameter.annotation)}"
        if parameter.kind is griffe.ParameterKind.var_positional:
            word = f"*{word}"
        elif parameter.default is not None:
            word += f" = {plain(parameter.default)}"
        is_marked = any(word.startswith("*") for word in words)
        if parameter.kind is griffe.ParameterKind.keyword_only and not is_marked:
            words.append("*")
        if parameter.name != "self":
            words.append(word)
    returns = f" -> {plain(one.returns)}" if one.is_function else ""
    line = f"{one.name}({', '.join(words)}){returns}"
    lines = "".join(f"    {word},\n" for word in words)
    return line if len(line) <= WIDTH else f"{one.name}(\n{lines}){returns}"


def usage(one: Any) -> str:
    """How a member of an async class is used."""
    if one.is_attribute:
        return str(one.name)
    call = f"{one.name}({'…' if len(one.parameters) > 1 else ''})"
    return f"async for … in {call}" if "Iterator" in str(one.returns) else f"await {call}"


def plain(expression: Any) -> str:
    """A type or a default, with what our own short names stand for: 4, and not CONCURRENCY."""
    if not isinstance(expression, griffe.Expr):
        return str(expression).replace("'", '"')
    return "".join(
        word if isinstance(word, str) else _meaning(word) for word in expression.iterate(flat=True)
    ).replace("'", '"')


def _meaning(word: griffe.Expr) -> str:
    root, _, name = word.canonical_path.partition(".")
    known = PACKAGE[name] if root == "eventferry" else None
    if isinstance(known, griffe.Attribute) and not isinstance(known.value, griffe.ExprCall):
        return plain(known.value)
    return str(word)


def linked(error: Any) -> str:
    """The name of an exception, with a link if it is on this page."""
    name = str(error)
    is_ours = name in PACKAGE.members or name in found("embedded").members
    return f"[`{name}`](#{name.lower()})" if is_ours else f"`{name}`"


def one_line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    sys.exit(main())
