"""The host's clock, which agent and process share: CLOCK_BOOTTIME, in nanoseconds.

It runs on while the host is suspended, unlike time.monotonic.
"""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]

SECOND = 1_000_000_000


def boottime() -> int:
    """Read CLOCK_BOOTTIME."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
