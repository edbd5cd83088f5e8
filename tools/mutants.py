"""Breaks the mechanism on purpose, one sabotage at a time: a named test must turn red.

    python -m tools.mutants              all of them
    python -m tools.mutants WORD …       those whose name has one of the words in it

Each sabotage is made in a copy of the tree. Its test must fail there, not for an error at its
set-up, and must pass on the copy that is left alone. A sabotage
whose text is not found is an error: then the code has changed, and `sabotages` must follow.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools.sabotages import (
    Sabotage,
    fitting,
    identity,
    operating,
    reading,
    recovering,
    running,
    seeing,
)

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("src", "tests", "tools", "docs", "pyproject.toml")
AT_A_TIME = 2
PATIENCE_S = 6
"""How long a test waits for what a sabotage may have made impossible."""
TIMEOUT_S = 120
SABOTAGES = (
    *reading.SABOTAGES,
    *running.SABOTAGES,
    *recovering.SABOTAGES,
    *identity.SABOTAGES,
    *operating.SABOTAGES,
    *fitting.SABOTAGES,
    *seeing.SABOTAGES,
)


def main(words: Sequence[str]) -> int:
    chosen = [s for s in SABOTAGES if not words or any(word in s.name for word in words)]
    stale = [f"{s.name}: {error}" for s in chosen if (error := missing(s))]
    if not chosen:  # --help, too
        print(f"No sabotage has one of these words in its name: {' '.join(words)}\n\n{__doc__}")
        return 2
    if stale:
        print("The code has changed, and its table has not:", *stale, sep="\n  ")
        return 1
    with tempfile.TemporaryDirectory(prefix="eventferry-mutants-") as folder:
        base = Path(folder)
        if not are_green(base / "original", sorted({s.test for s in chosen})):
            return 1
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            noticed = list(
                pool.map(lambda n: is_noticed(base / str(n), chosen[n]), range(len(chosen)))
            )
    survivors = [s.name for s, is_red in zip(chosen, noticed, strict=True) if not is_red]
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} sabotages noticed")
    return 1 if survivors else 0


def missing(one: Sabotage) -> str:
    """Which text of the sabotage is not in the code exactly once; empty: all is there."""
    for change in one.changes:
        count = (ROOT / change.file).read_text().count(change.old)
        if count != 1:
            return f"{change.file} has {count} times {change.old.strip().splitlines()[0]!r}"
    return ""


def are_green(copy: Path, tests: Sequence[str]) -> bool:
    make_copy(copy)
    done = pytest(copy, [*tests, "-n", str(AT_A_TIME)])
    if done.returncode != 0:
        print("Without any sabotage, these are red already:", done.stdout, sep="\n")
    return done.returncode == 0


def is_noticed(copy: Path, one: Sabotage) -> bool:
    """Makes the sabotage in a copy of the tree, and runs its test there."""
    began = time.monotonic()
    make_copy(copy)
    for change in one.changes:
        path = copy / change.file
        path.write_text(path.read_text().replace(change.old, change.new))
    run([sys.executable, "tools/async_to_sync.py"], copy)
    done = pytest(copy, [one.test])
    # failed: not by an error at its set-up, and not for lack of such a test
    is_red = done.returncode == 1 and "\nFAILED " in done.stdout
    verdict = "noticed " if is_red else "SURVIVED"
    test = one.test.rpartition("::")[2]
    print(f"{verdict} {one.name:<58} {time.monotonic() - began:4.0f} s  {test}", flush=True)
    if not is_red:
        print(done.stdout[-2000:], flush=True)
    shutil.rmtree(copy)
    return is_red


def make_copy(folder: Path) -> None:
    folder.mkdir()
    for name in COPIED:
        path = ROOT / name
        if path.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(path, folder / name, ignore=ignored)
        else:
            shutil.copy(path, folder / name)


def pytest(folder: Path, arguments: Iterable[str]) -> subprocess.CompletedProcess[str]:
    return run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", *arguments],
        folder,
    )


def run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """In the copy, whose modules come before those that are installed."""
    environment = os.environ | {
        "PYTHONPATH": str(folder / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "EVENTFERRY_TEST_PATIENCE_S": str(PATIENCE_S),
    }
    return subprocess.run(
        command,
        check=False,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S * 3,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
