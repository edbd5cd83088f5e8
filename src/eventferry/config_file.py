"""Where the configuration is, and what it says, unchecked.

Imports no model and no driver: a shell asks it at each completion. `config` is what checks it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eventferry.errors import ConfigurationError

FILE_NAME = "projections.toml"
FILE_VARIABLE = "EVENTFERRY_CONFIG"
PYPROJECT = "pyproject.toml"


def find(path: Path | str | None, environ: Mapping[str, str]) -> Path:
    """The file.

    Raises:
        ConfigurationError: there is none.
    """
    given = path or environ.get(FILE_VARIABLE)
    if given:
        return Path(given).absolute()
    here = Path.cwd()
    if (file := nearest(here)) is not None:
        return file
    advice = (
        f"Go to your service's folder, or name the file with --config or {FILE_VARIABLE}, "
        "or begin a service: `eventferry init`"
    )
    looked = f"there is no {FILE_NAME}, and no pyproject.toml with [tool.eventferry]"
    raise ConfigurationError([f"{looked}, in {here} or a folder above it. {advice}"])


def nearest(here: Path) -> Path | None:
    """The file of a folder, or of the nearest one above that has one."""
    for folder in (here, *here.parents):
        if (file := folder / FILE_NAME).is_file():
            return file
        if (file := folder / PYPROJECT).is_file() and _has_section(file):
            return file
    return None


def _has_section(pyproject: Path) -> bool:
    # By its text: a pyproject.toml that can't be parsed or read, and isn't ours, is not our matter.
    try:
        content = pyproject.read_bytes()
    except OSError:
        return False
    return re.search(rb"^\s*\[+\s*tool\s*\.\s*eventferry\b", content, re.MULTILINE) is not None


def section(file: Path) -> tuple[str, ...]:
    """The keys to the table that is ours; none: the whole file is."""
    return ("tool", "eventferry") if file.name == PYPROJECT else ()


def parse(file: Path) -> Any:
    """What the file says in our table; whatever that is, or None.

    Raises:
        OSError, ValueError, RecursionError: it can't be read, or is no TOML.
    """
    found: Any = tomllib.loads(file.read_bytes().decode("utf-8-sig"))
    for key in section(file):
        found = found.get(key) if isinstance(found, dict) else None
    return found
