"""How much memory this process takes."""

from __future__ import annotations

import gc
import resource
from pathlib import Path


def resident_kb() -> int:
    """What is in memory now, less what only waits to be collected."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 1024
