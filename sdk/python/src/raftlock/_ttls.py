"""Every TTL of a session that may be in force, and what it makes of deadlines told."""

from __future__ import annotations


def holders_share(ttl: int) -> int:
    """V's part of a TTL (design section 5)."""
    return ttl // 100 * 98


class TTLs:
    """The TTL last told, the one asked for, and those whose outcome is unknown.

    0: none. Nanoseconds.
    """

    def __init__(self, current: int) -> None:
        self.current = current
        self.asked = 0
        self.doubt_low = 0
        self.doubt_high = 0
        # A V that holds whichever of them is in force: the asking's time and the
        # share of what was asked for. The leader reckons from when it applied
        # the change, which was later.
        self.sure = 0

    def low(self) -> int:
        """The least that may be in force."""
        return min(t for t in (self.current, self.asked, self.doubt_low) if t)

    def high(self) -> int:
        """The greatest that a deadline may be made of: asked ones are not used before their answer."""
        return max(self.current, self.doubt_high)

    def told(self, ttl: int) -> None:
        """Take the TTL in force from an answer that came after all doubtful ones."""
        if ttl:
            self.current = ttl
        self.doubt_low = self.doubt_high = self.sure = 0

    def ask(self, ttl: int, now: int) -> None:
        """Note that another TTL is asked for now."""
        self.asked = ttl
        sure = now + holders_share(ttl)
        if not self.doubt_low or sure < self.sure:
            self.sure = sure

    def doubt(self) -> None:
        """Note that the asking's outcome is unknown."""
        self.doubt_high = max(self.doubt_high, self.asked)
        if not self.doubt_low or self.asked < self.doubt_low:
            self.doubt_low = self.asked

    def believed(self, told: int) -> int:
        """The deadline that may be taken from one the agent told.

        While a smaller TTL is asked for, one on its way may still be made of the
        larger, beyond what the leader promises: what could be too much is taken
        off.
        """
        excess = holders_share(self.high() - self.low())
        if excess <= 0:
            return told
        return max(told - excess, min(told, self.sure))
