"""Reading the file, and collecting what is wrong with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NoReturn

from eventferry._json import quoted
from eventferry.config_file import FILE_VARIABLE, parse, section
from eventferry.errors import ConfigurationError

URL_KEYS = ("local_url", "shared_url", "local_listen_url", "shared_listen_url")
VARIABLE_KEYS = (*URL_KEYS, "version")
"""Where `EVENTFERRY_…` in the environment wins over the file."""

_PASSWORD = re.compile(r"://.*:.*@", re.DOTALL)


class Mistakes:
    """Collects lines, each with the place that it speaks of."""

    def __init__(self, place: str, root: tuple[str, ...] = ()) -> None:
        self.lines: list[str] = []
        self._place = place
        self._root = root

    def add(self, text: str, *keys: str | int) -> None:
        self.lines.append(self.line(text, *keys))

    def line(self, text: str, *keys: str | int) -> str:
        """`projections.toml: consuming.buyer-projection.stream_names[0]: …`"""
        place = ""
        for key in (*self._root, *keys) if keys else ():
            place += f"[{key}]" if isinstance(key, int) else f"{'.' if place else ''}{_key(key)}"
        return ": ".join(part for part in (self._place, place, text) if part)

    def stop(self, text: str) -> NoReturn:
        self.add(text)
        raise ConfigurationError(self.lines)


def _key(key: str) -> str:
    """The key as TOML writes it."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else quoted(key)


def read(file: Path) -> tuple[dict[str, Any], Mistakes]:
    """What the file says, and where its mistakes are collected."""
    here = Path.cwd()
    place = str(file.relative_to(here) if file.is_relative_to(here) else file)
    mistakes = Mistakes(place, section(file))
    try:
        table: Any = without_passwords(parse(file))
    except FileNotFoundError:
        mistakes.stop(f"there is no such file (from --config or {FILE_VARIABLE})")
    except OSError as error:
        mistakes.stop(f"can't be read: {error.strerror}")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        mistakes.stop(f"is not UTF-8: the first wrong byte is in line {line}. Save it as UTF-8")
    except RecursionError:
        mistakes.stop("is not TOML that Python can read: it nests too deeply")
    except ValueError as error:  # TOMLDecodeError, or a number of too many digits
        mistakes.stop(f"is not TOML: {error}")
    if not isinstance(table, dict):
        mistakes.stop("has no table [tool.eventferry]")
    return table, mistakes


def without_passwords(value: Any, *, key: str = "") -> Any:
    """The same, but for URLs where none belongs: mistakes show what came."""
    if isinstance(value, dict):
        return {k: without_passwords(v, key=k) for k, v in value.items()}
    if isinstance(value, list):
        return [without_passwords(v) for v in value]
    is_misplaced = key not in URL_KEYS and isinstance(value, str) and _PASSWORD.search(value)
    return "a URL" if is_misplaced else value
