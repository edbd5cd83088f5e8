"""`uuid7()`: ids that sort by the time they were made, strictly increasing inside a process.

The standard library has one from Python 3.14 on; before that, `uuid_utils` makes them (in Rust,
several times faster than the same in Python). Both keep a counter beside the millisecond
(RFC 9562, section 6.2), so that two ids of one millisecond are in order too, whatever thread
made them. Neither promises anything between two processes but the order of their clocks.
"""

from __future__ import annotations

import sys

if sys.version_info >= (3, 14):
    from uuid import uuid7
else:
    from uuid_utils.compat import uuid7

__all__ = ["uuid7"]
