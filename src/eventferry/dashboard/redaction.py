"""What of events is not shown: what is at configured paths, or all.

A path is keys with dots between them, from the event down: `data.email`, `metadata.ip`,
`data.items.*.price`. `*` is every key of an object and every place of a list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

HIDDEN = "[redacted]"
ANY = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Redaction:
    """What is hidden of every event."""

    paths: tuple[tuple[str, ...], ...] = ()
    everything: bool = False
    """Whether data and metadata are not shown at all."""

    @classmethod
    def of(cls, paths: Iterable[str], *, payloads: bool) -> Redaction:
        """The paths as the configuration writes them."""
        return cls(paths=tuple(tuple(p.split(".")) for p in paths), everything=not payloads)

    def shown(self, part: str, value: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """An event's `data` or `metadata` without what is hidden; None: it is not shown."""
        if self.everything:
            return None
        below = [path[1:] for path in self.paths if path[0] in (part, ANY)]
        return _without(value, [path for path in below if path]) if all(below) else None


def _without(value: Any, paths: list[tuple[str, ...]]) -> Any:
    """The value, changed only where a path leads."""
    if not paths or not isinstance(value, (dict, list)):
        return value
    items = value.items() if isinstance(value, dict) else enumerate(value)
    kept = []
    for key, inner in items:
        below = [path[1:] for path in paths if path[0] in (str(key), ANY)]
        kept.append((key, _without(inner, below) if all(below) else HIDDEN))
    return dict(kept) if isinstance(value, dict) else [inner for _, inner in kept]
