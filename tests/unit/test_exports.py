"""What `eventferry` exports: all that it imports, sorted, every error of its own among it."""

from __future__ import annotations

import inspect
from types import ModuleType

import eventferry
from eventferry import errors


def test_all_is_sorted() -> None:
    assert eventferry.__all__ == sorted(eventferry.__all__)


def test_all_is_complete() -> None:
    public = {
        name
        for name, value in vars(eventferry).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert set(eventferry.__all__) == public


def test_every_error_is_exported() -> None:
    ours = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.EventFerryError)
    }
    assert ours <= set(eventferry.__all__)


def test_every_store_class_is_exported() -> None:
    assert set(eventferry.store.__all__) <= set(eventferry.__all__)
