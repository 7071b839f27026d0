"""The handle of one granted lock."""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import TYPE_CHECKING

from raftlock._clock import SECOND
from raftlock._errors import ForkedError, LostError, RaftLockError, SessionEndedError, again
from raftlock._log import log
from raftlock._proto import session_pb2 as pb
from raftlock._requests import State
from raftlock._trace import RELEASE, request_span

if TYPE_CHECKING:
    from raftlock._core import Core
    from raftlock._requests import Call

# How long leaving a with block, and release by default, wait for the answer.
GRACE = 5.0


class Lock:
    """A handle: one granted lock. Client.lock and Client.try_lock make it.

    It is its own context manager: leaving the block releases the lock. Once it
    is released or lost it stays so; taking the lock anew is a new handle with a
    new token. In a forked child it is inert: not valid, and nothing that is done
    to it there has an effect. All methods are safe from any thread.
    """

    def __init__(self, core: Core, name: str) -> None:
        self._core = core
        self._pid = os.getpid()
        self._name = name
        self._owner: object = None  # the client: while the handle lives, its sessions do
        self._ready = threading.Event()  # granted, or failed
        self._lost = threading.Event()
        self._revoked = threading.Event()
        # Guarded by the session's mutex.
        self._seq = 0
        self._state = State.ASKED
        self._token = 0
        self._deadline = 0
        self._stream = 0  # the last stream that spoke of it
        self._frozen = False  # revoked: no lease moves it
        self._gone: int = pb.REASON_UNSPECIFIED
        self._release: Call | None = None
        self._err: BaseException | None = None  # why it is over

    @property
    def name(self) -> str:
        """The lock's name."""
        return self._name

    @property
    def token(self) -> int:
        """The fencing token of the grant, if the lock is held now.

        The clock is compared with V in this call. Send it with every write to
        what the lock protects, and let that refuse lower ones. Raises LostError,
        ReleasedError, ForkedError.
        """
        self._refuse_if_forked()
        return self._core.token(self)

    def valid(self) -> bool:
        """Whether the lock is held now: the clock is compared with V in this call.

        A method, not a property, since it asks anew each time. Never raises, but
        for signal handlers (see Client.lock); in a forked child it is False.
        """
        try:
            return self.token != 0
        except RaftLockError:
            return False

    @property
    def lost(self) -> threading.Event:
        """Set when the handle was lost, or its session is over.

        It follows the deadline as fast as the scheduler lets it: a hint for those
        who wait. valid() and token do not lag.
        """
        if self._forked():
            return _set_event()
        return self._lost

    @property
    def revoked(self) -> threading.Event:
        """Set when an administrator wants the lock back.

        It is still held, until it is released or its deadline passes, which
        nothing moves any more.
        """
        if self._forked():
            return _set_event()
        return self._revoked

    @property
    def deadline(self) -> float:
        """The handle's V: the reading of CLOCK_BOOTTIME, in seconds, until which it is held.

        Renewals move it; a revoked handle's stands still. Of a handle that is not
        held: when it ended, or before. 0.0 in a forked child.
        """
        if self._forked():
            return 0.0
        return self._core.deadline(self) / SECOND

    def left(self) -> float:
        """For how many seconds it is held if no renewal comes any more. 0.0: not held."""
        if self._forked():
            return 0.0
        return self._core.left(self) / SECOND

    def renew(self, *, ttl: float | None = None, timeout: float | None = GRACE) -> None:
        """Ask for another TTL, in seconds, and return when it is in force.

        The TTL is its session's, and counts for every lock that this client took
        with the same one. Holds renew themselves: nobody must call this to keep a
        lock. Without a ttl the same one is asked for again, which shows that the
        cluster still answers for this session. A smaller one shortens the deadline
        at once, whatever the answer. Raises LostError and the like if the lock is
        not held, InvalidError, WaitTimeout (the request goes on; applied is
        "unknown" unless it waited for another to end).
        """
        self._refuse_if_forked()
        self._core.token(self)
        set_ttl(self._core, self._core.wanted_ttl if ttl is None else round(ttl * SECOND), timeout)
        self._core.token(self)

    def release(self, *, timeout: float | None = GRACE) -> None:
        """Give the lock up and return when that is applied.

        The handle is invalid from the call on. If the timeout (seconds; None: no
        limit) passes, WaitTimeout says that the outcome is unknown, and the release
        goes on; calling again waits further, and repeated calls tell the outcome of
        the first. Raises LostError if it had been lost before. In a forked child it
        does nothing.
        """
        if self._forked():
            return
        try:
            with request_span(RELEASE) as span:
                span.says(lock=self._name, session=self._core.id.hex())
                call = self._core.start_release(self, span.trace)
                if call is None:
                    if self._err is not None:
                        raise again(self._err)
                    return
                if not self._core.wait(call.done, timeout):
                    raise self._core.gave_up(f"release {self._name!r}", "unknown")
                if call.err is not None:
                    raise again(call.err)
                span.says(outcome="released")
        except BaseException:
            self._core.start_release(self)  # whatever came before it was (a broken span processor)
            raise

    def __enter__(self) -> Lock:
        self._refuse_if_forked()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release. Of a block that ended well it raises LostError if the lock was lost.

        What else befalls the release (no agent answers) is logged: the block's
        work is done, and the release is repeated until it is applied or the lease
        is over. A lock that the block released itself is left alone.
        """
        if self._forked():
            return
        try:
            self.release(timeout=min(GRACE, self._core.ttl.current / SECOND))
        except (LostError, SessionEndedError):
            if kind is None:
                raise
        except RaftLockError as err:
            log.warning("release of lock %r goes on: %s", self._name, err)

    def __repr__(self) -> str:
        return f"<raftlock.Lock {self._name!r}>"

    def _forked(self) -> bool:
        return os.getpid() != self._pid

    def _refuse_if_forked(self) -> None:
        if self._forked():
            raise ForkedError(f"lock {self._name!r} was taken by process {self._pid}")


def set_ttl(core: Core, ttl: int, timeout: float | None) -> None:
    """Change a session's TTL. One change is under way at a time; others wait."""
    while True:
        call, busy = core.start_ttl(ttl)
        if call is not None:
            if not core.wait(call.done, timeout):
                raise core.gave_up("set TTL", "unknown")
            if call.err is not None:
                raise again(call.err)
            return
        if busy is not None and not core.wait(busy.done, timeout):
            raise core.gave_up("set TTL", "no")


def _set_event() -> threading.Event:
    event = threading.Event()
    event.set()
    return event
