"""The records a session keeps of what it asked for, and the requests' making."""

from __future__ import annotations

import enum
import threading
from typing import TYPE_CHECKING

from raftlock._proto import session_pb2 as pb

if TYPE_CHECKING:
    from raftlock._lock import Lock

# Bounds of the cluster, checked here too: a name that is no UTF-8 could not even
# be sent.
NAME_BYTES_MAX = 512
METADATA_BYTES_MAX = 4 << 10


class State(enum.Enum):
    """How far an acquire has come."""

    ASKED = "asked"  # no answer yet
    WAITING = "waiting"  # in the queue
    HELD = "held"  # granted
    RELEASING = "releasing"  # given up, not answered yet
    OVER = "over"  # released, lost, failed or cancelled: final


class Call:
    """One request with a sequence, from its making to its answer.

    It is repeated on every stream until then.
    """

    def __init__(self, seq: int, template: pb.SessionRequest, lock: Lock | None, acquire: bool) -> None:
        self.seq = seq
        self.template = template  # never changed once made
        self.lock = lock  # of acquires and releases
        self.acquire = acquire
        self.sent = False  # it may have reached an agent
        self.done = threading.Event()  # it is over; err is set before
        self.err: BaseException | None = None


class Debt:
    """A hold or wait that must not stay.

    Its giving back is repeated on every stream until the session knows that it
    is gone.
    """

    def __init__(self, seq: int, token: int = 0, unanswered: bool = False) -> None:
        self.seq = seq
        self.token = token  # of a hold that was judged lost; 0: a cancel
        # The acquire's own answer is outstanding, so its sequence is
        # acknowledged only when this is settled.
        self.unanswered = unanswered

    def request(self) -> pb.SessionRequest:
        """What pays it."""
        if self.token:
            return pb.SessionRequest(release=pb.Release(hold=self.seq, token=self.token, lost=True))
        return pb.SessionRequest(cancel=pb.Cancel(target=self.seq))


def _utf8(text: str) -> bytes:
    return text.encode("utf-8")


def bounded_name(name: str) -> str:
    """Say what is wrong with a lock's name; "" if nothing."""
    try:
        size = len(_utf8(name))
    except UnicodeEncodeError:
        return "a lock's name is UTF-8"
    if not 1 <= size <= NAME_BYTES_MAX:
        return f"a lock's name has 1 to {NAME_BYTES_MAX} bytes"
    if any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name):
        return "a lock's name has no control characters"
    return ""


def bounded(name: str, priority: int, metadata: dict[str, str]) -> str:
    """Say what is wrong with an acquire; "" if nothing."""
    wrong = bounded_name(name)
    if wrong:
        return wrong
    if not -(1 << 31) <= priority < 1 << 31:
        return "a priority has 32 bits"
    try:
        size = sum(len(_utf8(k)) + len(_utf8(v)) for k, v in metadata.items())
    except UnicodeEncodeError:
        return "metadata is UTF-8"
    if size > METADATA_BYTES_MAX:
        return f"metadata has at most {METADATA_BYTES_MAX} bytes"
    return ""
