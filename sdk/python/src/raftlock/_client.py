"""The client: the sessions of one process with its agent, and what it reads there."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, TypeVar

import grpc

from raftlock._clock import SECOND, Clock, boottime
from raftlock._core import REDIAL_MAX, REDIAL_MIN, TTL_MIN, Core
from raftlock._driver import Driver
from raftlock._errors import ClosedError, InvalidError, LimitError, RaftLockError, SessionEndedError
from raftlock._lock import GRACE, Lock
from raftlock._mutex import Mutex, to_take
from raftlock._proto import read_pb2, session_pb2
from raftlock._reads import LockInfo, Status, lock_info, status
from raftlock._requests import bounded_name
from raftlock._status import from_rpc, obstacle_of
from raftlock._stream import (
    Reader,
    SocketStream,
    Stream,
    begin,
    check_path,
    close_channel,
    new_channel,
    socket_path,
)
from raftlock._trace import ACQUIRE, current_metadata, request_span

DEFAULT_TTL = 10.0
# Bound on a client's sessions, of which it has one for each TTL.
SESSIONS_MAX = 16

R = TypeVar("R")


class _Sessions:
    """What a client has in one process; a forked child begins with a new one."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._mu = Mutex()
        self.drivers: list[Driver] = []
        self.closed = False

    @property
    def mu(self) -> threading.RLock:
        """Guards drivers and closed."""
        return to_take(self._mu)


def _abandon(sessions: _Sessions) -> None:
    """Mark the sessions of a client that is garbage. It takes no mutex: it may run under any."""
    if sessions.pid == os.getpid():
        for driver in sessions.drivers:
            driver.abandoned = True


class Client:
    """Locks by the agent of this host. See the package's documentation.

    socket: the agent's; by default the variable RAFTLOCK_SOCKET, else
    /run/raftlock.sock or /run/raftlock/raftlock.sock, whichever is there. ttl, in
    seconds: for how long locks outlive an agent or a process that fell silent;
    below an election (2 to 3 s) they do not survive a leader's crash. Least 0.2.
    lease_on_exit: let the lease run out when the process exits instead of ending
    everything at that instant.

    Making a client connects to nothing: its first call does. All methods are
    safe from any thread. A client made before a fork is usable in the child, with
    sessions of its own, unless the parent had used it (see ForkedError).
    """

    def __init__(
        self,
        socket: str | os.PathLike[str] | None = None,
        *,
        ttl: float = DEFAULT_TTL,
        lease_on_exit: bool = False,
        _clock: Clock = boottime,
    ) -> None:
        self._socket = os.fspath(socket) if socket is not None else None
        check_path(socket_path(self._socket))
        self._ttl = _nanos(ttl)
        self._lease_on_exit = lease_on_exit
        self._clock = _clock
        self._page_limit = 0  # as many as the agent gives at once
        self._begin()
        _clients.add(self)

    def _begin(self) -> None:
        self._sessions = _Sessions()
        weakref.finalize(self, _abandon, self._sessions).atexit = False

    def lock(
        self,
        name: str,
        *,
        ttl: float | None = None,
        timeout: float | None = None,
        priority: int = 0,
        metadata: dict[str, str] | None = None,
    ) -> Lock:
        """Take the lock, waiting for its turn, and return its handle.

        The handle is its own context manager, and may be used without:

            with client.lock("nightly-report", timeout=30) as held:
                store.write(data, token=held.token)

        timeout (seconds; None: no limit) covers all: an agent that is not there,
        a cluster without a leader, the queue. The place in the queue survives
        broken streams, agents and leaders. When the timeout passes, or the call is
        interrupted, whatever became of the request is undone behind the caller's
        back.

        ttl belongs to sessions: the client has one session for each TTL that it
        is asked for, 16 at most, and keeps it until it is closed. priority: higher
        first. metadata: what people should know of the holder, up to 4 KiB.

        Two calls for one name contend like strangers, also in one thread.

        Signal handlers should raise (sys.exit(), say: whatever it interrupts is
        undone) or set a flag, and use neither client nor handle. Where one comes
        into the middle of another call, it gets a RuntimeError: waiting for that
        call, which it interrupted, would never end.

        Raises WaitTimeout, NoLeaderError, NoQuorumError (all TimeoutErrors; they
        name what stood in the way), InvalidError, DeniedError, LimitError,
        QueueFullError, RateLimitedError, SessionEndedError, LostError (the grant
        came too late to be used), ForkedError, ClockError, ClosedError.
        """
        return self._acquire(name, False, ttl, timeout, priority, metadata)

    def try_lock(
        self,
        name: str,
        *,
        ttl: float | None = None,
        timeout: float | None = None,
        priority: int = 0,
        metadata: dict[str, str] | None = None,
    ) -> Lock:
        """Take the lock if it is free, else raise HeldError. Otherwise as lock.

        timeout bounds the wait for an answer, not for the lock.
        """
        return self._acquire(name, True, ttl, timeout, priority, metadata)

    def get(self, name: str, *, stale: bool = False, timeout: float | None = 10.0) -> LockInfo:
        """Read one lock.

        What it tells was true when it was read. stale: by any replica, perhaps an
        old one, also without a quorum. Reads wait for the agent, over its restarts,
        until the timeout (seconds; None: no limit). A decision to write belongs to
        a handle and its token, never to a read.
        """
        wrong = bounded_name(name)
        if wrong:
            raise InvalidError(wrong)
        request = read_pb2.GetRequest(lock=name, stale=stale)
        return lock_info(self._read(f"get {name!r}", lambda r: r.get, request, _deadline(timeout)).lock)

    def locks(
        self,
        *,
        prefix: str = "",
        pattern: str = "",
        owner: str = "",
        contested: bool = False,
        metadata: dict[str, str] | None = None,
        stale: bool = False,
        timeout: float | None = 10.0,
    ) -> Iterator[LockInfo]:
        """Read the locks that are held or waited for, by name, page by page.

        Every condition that is given must be met. pattern: "*" matches any run of
        characters, "?" one. contested: with waiters only. Otherwise as get; the
        timeout is each page's.
        """
        after = ""
        while True:
            request = read_pb2.ListRequest(
                prefix=prefix,
                pattern=pattern,
                owner=owner,
                contested=contested,
                metadata=metadata,
                after=after,
                limit=self._page_limit,
                stale=stale,
            )
            page = self._read("list locks", lambda r: r.list, request, _deadline(timeout))
            yield from (lock_info(m) for m in page.locks)
            if not page.next:
                return
            if page.next <= after:
                raise RaftLockError(f"list locks: the page after {after!r} leads back to {page.next!r}")
            after = page.next

    def status(self, *, timeout: float | None = 10.0) -> Status:
        """Read what the agent knows of itself and of its cluster. Otherwise as get."""
        request = read_pb2.StatusRequest()
        return status(self._read("status", lambda r: r.status, request, _deadline(timeout)))

    def close(self, *, timeout: float = GRACE) -> None:
        """End the sessions: every lock is given back, every wait left, in one step each.

        It returns when that is applied, or after the timeout; then the leases run
        out by themselves. Calls fail with ClosedError from then on. Safe to repeat.
        """
        sessions = self._sessions
        with sessions.mu:
            sessions.closed = True
            drivers, sessions.drivers = sessions.drivers, []
        end = time.monotonic() + timeout
        for driver in drivers:
            driver.core.start_close()
        for driver in drivers:
            driver.close(max(0.0, min(end - time.monotonic(), driver.core.ttl.current / SECOND)))

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _acquire(
        self,
        name: str,
        try_: bool,
        ttl: float | None,
        timeout: float | None,
        priority: int,
        metadata: dict[str, str] | None,
    ) -> Lock:
        nanos = self._ttl if ttl is None else _nanos(ttl)
        lock: Lock | None = None
        try:
            with request_span(ACQUIRE) as span:
                span.says(lock=name, try_=try_)
                while lock is None:
                    core = self._session(nanos).core
                    lock = Lock(core, name)
                    try:
                        core.ask(
                            name, try_=try_, priority=priority, metadata=metadata, trace=span.trace, lock=lock
                        )
                    except SessionEndedError:
                        # It ended after it was found; nothing was asked. The next is new.
                        if not core.is_over():
                            raise
                        lock = None
                span.says(session=lock._core.id.hex())
                lock._owner = self
                lock._core.wait(lock._ready, timeout)
                lock._core.obtained(lock)
                span.says(outcome="held", token=lock._token)
            return lock
        except BaseException:
            # Whatever it is (Ctrl-C, a broken span processor): without its handle
            # nobody could give the lock back, and its session would be renewed.
            if lock is not None:
                lock._core.undo(lock)
            raise

    def _session(self, ttl: int) -> Driver:
        """The session of a TTL, which is opened if there is none."""
        sessions = self._sessions
        with sessions.mu:
            if sessions.closed:
                raise ClosedError()
            sessions.drivers = [d for d in sessions.drivers if not d.core.is_over()]
            for driver in sessions.drivers:
                if driver.core.wanted_ttl == ttl:
                    return driver
            if len(sessions.drivers) >= SESSIONS_MAX:
                raise LimitError(f"a client has {SESSIONS_MAX} sessions, one for each TTL, at most")
            driver = self._open(ttl)
            sessions.drivers.append(driver)
            return driver

    def _open(self, ttl: int) -> Driver:
        given = self._socket
        where = f"the agent at {socket_path(given)}"
        core = Core(ttl=ttl, clock=self._clock, lease_on_exit=self._lease_on_exit, where=where)

        def dial(requests: Iterator[session_pb2.SessionRequest]) -> Stream:
            return SocketStream(socket_path(given), requests)

        begin()
        driver = Driver(core, dial)
        driver.start()
        return driver

    def _read(self, doing: str, method: Callable[[Reader], Any], request: Any, end: float) -> Any:
        """Ask one question until it is answered: nothing is changed by asking again."""
        if self._sessions.closed:
            raise ClosedError()
        path = socket_path(self._socket)
        channel = new_channel(path)
        try:
            ask = method(Reader(channel))
            pause, obstacle = REDIAL_MIN / SECOND, ""
            while True:
                left = end - time.monotonic()
                try:
                    return ask(request, timeout=min(max(left, 0.001), 1e6), metadata=current_metadata())
                except grpc.RpcError as err:
                    obstacle = obstacle_of(err) or obstacle
                    left = end - time.monotonic()
                    if not obstacle_of(err) or left <= 0:
                        raise from_rpc(err, doing, path, obstacle) from None
                time.sleep(min(pause, left))
                pause = min(2 * pause, REDIAL_MAX / SECOND)
        finally:
            close_channel(channel)


def _nanos(ttl: float) -> int:
    nanos = round(ttl * SECOND)
    if nanos < TTL_MIN:
        raise InvalidError(f"a TTL is at least {TTL_MIN / SECOND} s")
    return nanos


def _deadline(timeout: float | None) -> float:
    return time.monotonic() + (1e9 if timeout is None else timeout)


_clients: weakref.WeakSet[Client] = weakref.WeakSet()


def _in_child() -> None:
    for client in _clients:
        client._begin()


os.register_at_fork(after_in_child=_in_child)
