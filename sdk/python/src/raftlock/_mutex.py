"""A mutex that a signal handler cannot wait for: who has it already is told so.

Handlers run in the main thread between two steps of whatever it was doing. One
that waited for a mutex which that thread has would wait for ever, and every other
thread with it.
"""

from __future__ import annotations

import threading

Mutex = threading.RLock  # it knows its owner; nothing here takes one twice


def to_take(mutex: threading.RLock) -> threading.RLock:
    """Return mutex, to be entered next: with to_take(mutex).

    Raises RuntimeError where this thread has it. The entering itself is left to
    the with statement, which no signal comes into.
    """
    if mutex._is_owned():  # type: ignore[attr-defined]
        raise RuntimeError(
            "called from a signal handler that interrupted a call of raftlock;"
            " let the handler raise or set a flag instead"
        )
    return mutex
