"""What `eventferry` exports: all that it imports, sorted, every error of its own among it."""

from __future__ import annotations

import inspect
import subprocess
import sys
from types import ModuleType

import eventferry
from eventferry import _exports, errors, store


def test_all_is_sorted() -> None:
    assert _exports.__all__ == sorted(_exports.__all__)


def test_all_is_complete() -> None:
    public = {
        name
        for name, value in vars(_exports).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert set(_exports.__all__) == public


def test_every_error_is_exported() -> None:
    ours = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.EventFerryError)
    }
    assert ours <= set(_exports.__all__)


def test_every_store_class_is_exported() -> None:
    assert set(store.__all__) <= set(_exports.__all__)


def test_everything_is_to_be_had_of_the_package() -> None:
    found: dict[str, object] = {}
    exec("from eventferry import *", found)

    assert set(_exports.__all__) <= set(found)
    assert not hasattr(eventferry, "no_such_thing")


def test_the_help_imports_neither_the_driver_nor_other_heavy_things() -> None:
    """It would take three times as long; and so would each completion in a shell."""
    program = (
        "import sys; from eventferry.cli import main; main(['worker', '--help'])\n"
        "heavy = {'psycopg', 'orjson', 'rich', 'http.server'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)

    assert done.returncode == 0, done.stderr.decode()
