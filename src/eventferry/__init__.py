"""eventferry moves events between services, with nothing but the PostgreSQL they already run.

Follow an event: `event` → `store` (appended) → `source` (read, up to the horizon) → `engine`
(ferried, or handled, with its checkpoint) → `run` → `worker`. What is not exported here is
private.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eventferry._exports import *  # noqa: F403 - it has an __all__
else:

    def __getattr__(name: str) -> object:
        """What is exported, imported when it is asked for: most commands need little of it."""
        from importlib import import_module
        from importlib.util import find_spec

        if find_spec(f"{__name__}.{name}") is None:  # else `from eventferry import MODULE` goes on
            exports = import_module(f"{__name__}._exports")
            if name == "__all__" or name in exports.__all__:
                return getattr(exports, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
