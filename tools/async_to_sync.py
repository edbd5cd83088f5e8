"""Generates the sync twins of the async modules, so that each exists in one source only.

    python tools/async_to_sync.py            writes them
    python tools/async_to_sync.py --check    exits 1 and shows a diff if one is out of date

Keywords and names are replaced in code, names and phrases in comments and strings too. A statement
whose first line ends with `# async-only` is left out, block and all; on a line inside of a
statement (an argument, an item) the comment leaves out that line.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import io
import re
import subprocess
import sys
import tokenize
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = {
    "src/eventferry/store/_native/_async.py": "src/eventferry/store/_native/_sync.py",
    "src/eventferry/store/_async.py": "src/eventferry/store/_sync.py",
    "src/eventferry/engine/context/_async.py": "src/eventferry/engine/context/_sync.py",
    "src/eventferry/engine/locking/_async.py": "src/eventferry/engine/locking/_sync.py",
    "src/eventferry/engine/_async.py": "src/eventferry/engine/_sync.py",
    "src/eventferry/waiting/_async.py": "src/eventferry/waiting/_sync.py",
}

KEYWORDS = {"async", "await"}
# Beside these, every AsyncThing becomes Thing, and every async_thing a thing.
NAMES = {
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "_async": "_sync",
    "aclose": "close",
    "aclosing": "closing",
    "aiter": "iter",
    "anext": "next",
    "async_driver_connection": "driver_connection",
    "async_give_up": "give_up",
    "asynccontextmanager": "contextmanager",
    "enter_async_context": "enter_context",
    "push_async_callback": "callback",
    "push_async_exit": "push",
}
# In comments and strings, in this order.
PHRASES = {
    "an async ": "a ",
    "async ": "",
    "asynchronous": "synchronous",
    "awaited": "called",
}

ONLY = re.compile(r"# async-only\b")
WORD = re.compile(r"\w+")
PREFIX = re.compile(r"^(_?)(?:Async(?=[A-Z])|async_(?=[a-z]))")
ASYNC_NODES = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--check", action="store_true", help="write nothing, exit 1 on a difference"
    )
    check = parser.parse_args().check
    stale = [
        target for source, target in FILES.items() if not generate(source, target, check=check)
    ]
    if stale:
        print("Out of date: run make generate, then commit", *stale, file=sys.stderr)
    return 1 if stale else 0


def generate(source: str, target: str, *, check: bool) -> bool:
    """Brings one sync module up to date, as `brought_up_to_date` does."""
    if not (ROOT / source).exists():
        return True
    wanted = formatted(
        f"# Generated from {source} by tools/async_to_sync.py; do not edit.\n"
        + to_sync((ROOT / source).read_text()),
        target,
    )
    return brought_up_to_date(target, wanted, check=check)


def brought_up_to_date(target: str, wanted: str, *, check: bool) -> bool:
    """Writes what is wanted; with `check`, only tells whether it is there, and shows a diff."""
    found = (ROOT / target).read_text() if (ROOT / target).exists() else ""
    if wanted == found:
        return True
    if not check:
        (ROOT / target).write_text(wanted)
        print(f"Generated {target}")
        return True
    lines = found.splitlines(keepends=True), wanted.splitlines(keepends=True)
    sys.stdout.writelines(difflib.unified_diff(*lines, f"{target} (found)", f"{target} (wanted)"))
    return False


def to_sync(code: str) -> str:
    """The sync form of async code; raises SyntaxError if something async is left."""
    sync = replace_tokens(drop_async_only(code))
    for node in ast.walk(ast.parse(sync)):
        if isinstance(node, ASYNC_NODES):
            # Python 3.11 sees no tokens in an f-string.
            raise SyntaxError(f"still async, move it out of the f-string: {ast.unparse(node)}")
    return sync


def drop_async_only(code: str) -> str:
    lines = code.splitlines(keepends=True)
    marked = {number for number, line in enumerate(lines, 1) if ONLY.search(line)}
    dropped = set(marked)
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.stmt) and node.lineno in marked:
            decorators = getattr(node, "decorator_list", [])
            first = min([node.lineno, *(d.lineno for d in decorators)])
            dropped.update(range(first, (node.end_lineno or node.lineno) + 1))
    return "".join(line for number, line in enumerate(lines, 1) if number not in dropped)


def replace_tokens(code: str) -> str:
    """Edits in place, from the end, so that the positions of earlier tokens stay true."""
    lines = code.splitlines(keepends=True)
    tokens = list(tokenize.generate_tokens(io.StringIO(code).readline))
    for token, following in reversed(list(pairwise(tokens))):
        (row, start), (last_row, end) = token.start, token.end
        if token.type == tokenize.NAME and token.string in KEYWORDS:
            new = ""
            if following.start[0] == row:
                end = following.start[1]
        elif token.type == tokenize.NAME:
            new = sync_name(token.string)
        elif token.type == tokenize.COMMENT or "STRING" in tokenize.tok_name[token.type]:
            new = sync_prose(token.string)
        else:
            continue
        if new != token.string:
            before, after = lines[row - 1][:start], lines[last_row - 1][end:]
            lines[row - 1 : last_row] = (before + new + after).splitlines(keepends=True)
    return "".join(lines)


def sync_name(name: str) -> str:
    return NAMES.get(name) or PREFIX.sub(r"\1", name)


def sync_prose(text: str) -> str:
    for phrase, replacement in PHRASES.items():
        text = re.sub(rf"\b{phrase}", replacement, text)
    return WORD.sub(lambda word: sync_name(word.group()), text)


def formatted(code: str, target: str) -> str:
    """As `make format` would leave it: shorter names move in imports and lines."""
    ruff = [str(Path(sys.executable).parent / "ruff")]
    for step in (["check", "--fix", "--quiet", "--select", "F401,I"], ["format", "--quiet"]):
        command = [*ruff, *step, "--stdin-filename", str(ROOT / target), "-"]
        code = subprocess.run(
            command, input=code, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT
        ).stdout
    return code


if __name__ == "__main__":
    sys.exit(main())
