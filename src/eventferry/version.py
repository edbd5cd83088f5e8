"""Which code of a service runs here: what it says itself, or a fingerprint."""

from __future__ import annotations

import hashlib
import sys
from importlib.metadata import version
from pathlib import Path

from eventferry.config import Config


def code_version(config: Config) -> str:
    """The service's version: `EVENTFERRY_VERSION`, or `version` of the configuration.

    Else a fingerprint of eventferry, of the configuration and of the modules that hold handlers,
    which differs when one of these does.
    """
    if config.version:
        return config.version
    seen = hashlib.sha256(version("eventferry").encode())
    for path in [config.path, *_modules(config)]:
        try:
            seen.update(path.read_bytes())
        except OSError:
            continue  # it is no file: in an archive, or generated
    return seen.hexdigest()[:10]


def _modules(config: Config) -> list[Path]:
    names = {p.handler.reference.partition(":")[0] for p in config.consuming if p.handler}
    found = (sys.modules.get(name) for name in sorted(names))
    return [Path(module.__file__) for module in found if module and module.__file__]
