"""The sync modules are the async ones without the waiting."""

from __future__ import annotations

import sys
from textwrap import dedent

import pytest

from tools.async_to_sync import formatted, to_sync


def sync(code: str) -> str:
    return to_sync(dedent(code)).strip()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("async def f(): return await g()", "def f(): return g()"),
        ("async def f():\n  async with a as b: pass", "def f():\n  with a as b: pass"),
        ("async def f():\n  return [x async for x in y]", "def f():\n  return [x for x in y]"),
        ("from eventferry.store._async import AsyncEventStore", None),
        ("class AsyncX:\n  async def __aenter__(self) -> AsyncX: ...", None),
        ("class _AsyncX: pass", "class _X: pass"),
        ("async def async_f(): await async_g()", "def f(): g()"),
        ("Asynchrony = 1", "Asynchrony = 1"),
        ("from contextlib import aclosing", "from contextlib import closing"),
    ],
)
def test_keywords_go_and_names_change(code: str, expected: str | None) -> None:
    assert sync(code) == (
        expected
        or code.replace("_async", "_sync")
        .replace("Async", "")
        .replace("async ", "")
        .replace("__aenter__", "__enter__")
    )


def test_names_and_phrases_change_in_prose_but_await_stays() -> None:
    code = '''
    def f():
        """An AsyncEventStore; an async twin of it. Who can await?"""
        # see AsyncPool
    '''
    assert '"""An EventStore; a twin of it. Who can await?"""' in sync(code)
    assert "# see Pool" in sync(code)


def test_async_only_leaves_out_a_line_or_a_block() -> None:
    code = """
    import asyncio  # async-only
    def f(
        a,
        b,  # async-only
    ):
        return a
    @decorator
    async def g():  # async-only
        await h()

    x = 1
    """
    assert sync(code) == "def f(\n    a,\n):\n    return a\n\nx = 1"


def test_what_stays_async_is_an_error() -> None:
    code = "async def f(): return f'{await g()}'"
    if sys.version_info >= (3, 12):
        assert sync(code) == "def f(): return f'{g()}'"
    else:
        with pytest.raises(SyntaxError, match="still async"):
            sync(code)


def test_the_result_is_formatted_and_its_imports_are_sorted() -> None:
    code = "from a import Z, B\nf( Z,B )"
    assert formatted(code, "x.py") == "from a import B, Z\n\nf(Z, B)\n"
