"""Which sequences need no answer any more: what every request acknowledges."""

from __future__ import annotations

import bisect

# Bound on what one request names above the mark; the rest is named when the
# mark has moved.
ABOVE_MAX = 1024


class Acks:
    """Everything up to mark, and the sequences above it, rising."""

    def __init__(self) -> None:
        self.mark = 0
        self.above: list[int] = []

    def add(self, seq: int) -> None:
        """Note that seq needs no answer any more. Adding twice is harmless."""
        if seq <= self.mark:
            return
        at = bisect.bisect_left(self.above, seq)
        if at < len(self.above) and self.above[at] == seq:
            return
        self.above.insert(at, seq)
        n = 0
        while n < len(self.above) and self.above[n] == self.mark + 1:
            self.mark += 1
            n += 1
        del self.above[:n]

    def named(self) -> tuple[int, list[int]]:
        """What a request carries."""
        return self.mark, self.above[:ABOVE_MAX]
