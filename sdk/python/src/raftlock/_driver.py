"""The threads of one session, all daemons: they never keep a process alive.

run dials, and takes what the stream brings; the stream's sender (gRPC's own
thread) pulls what there is to send, beats first; watch sets the events of what
was lost. Nothing here decides anything: that is _core's. stop ends them.
"""

from __future__ import annotations

import atexit
import os
import random
import threading
import weakref
from collections.abc import Iterator

import grpc

from raftlock._clock import SECOND
from raftlock._core import Core
from raftlock._errors import RaftLockError, SessionEndedError
from raftlock._log import log
from raftlock._proto import session_pb2 as pb
from raftlock._stream import Dialer, Stream
from raftlock._take import StreamOver


class Turn:
    """One stream's turn: its sender stops once it is over."""

    def __init__(self) -> None:
        self.over = False


class Driver:
    """See the module."""

    def __init__(self, core: Core, dial: Dialer) -> None:
        self.core = core
        self._dial = dial
        self._stopped = False
        # Set by a finaliser, which must take no mutex: nobody can use the session any more.
        self.abandoned = False
        self._stream: Stream | None = None
        self._threads = [
            threading.Thread(target=work, name=f"raftlock-{name}", daemon=True)
            for name, work in (("run", self._run), ("watch", self._watch))
        ]
        _drivers.add(self)

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self, cause: BaseException) -> None:
        """End the session for this process, its stream and, within a moment, its threads."""
        with self.core.mu:
            self.core.closing = True  # what is lost by it is no news
            self.core._finish(cause)
            self._stopped = True
            self.core.wake.notify_all()
            self.core.look.notify_all()
            stream = self._stream
        if stream is not None:
            stream.close()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(5)

    def close(self, timeout: float | None) -> bool:
        """End the session in one step and stop. False: its end is not confirmed.

        One that was never opened, as far as is known here, holds nothing and is
        not waited for.
        """
        self.core.start_close()
        confirmed = self.core.done.wait(timeout if self.core.opened.is_set() else 0)
        self.stop(SessionEndedError("closed"))
        return confirmed

    def _run(self) -> None:
        while not self._over():
            why = self._use_stream()
            if self._over():
                return
            pause = self.core.down(why, random.random())
            log.debug("session stream broken: %s; next in %d ms", why, pause // 1_000_000)
            with self.core.mu:
                self.core.wake.wait_for(self._over_locked, pause / SECOND)

    def _use_stream(self) -> str:
        """Read a stream until it breaks; returns why."""
        turn = Turn()
        stream: Stream | None = None
        why = "the agent ended it"
        try:
            stream = self._dial(self._requests(turn))
            with self.core.mu:
                self._stream = stream
                over = self._over_locked()
            if not over:
                for resp in stream:
                    self.core.take(resp)
        except StreamOver as over_now:
            why = str(over_now)
        except grpc.RpcError as err:
            why = _obstacle(err)
        except RaftLockError as err:
            why = str(err)
        except Exception as err:
            # Nothing that one stream brings may end the thread: V is what bounds the harm.
            why = repr(err)
            log.warning("session stream given up", exc_info=True)
        finally:
            # Before it is closed: somebody else may be granted its locks then.
            self.core.unbound(why)
            with self.core.mu:
                turn.over = True
                self._stream = None
                self.core.wake.notify_all()
            if stream is not None:
                stream.close()
        return why

    def _requests(self, turn: Turn) -> Iterator[pb.SessionRequest]:
        """Yield what is to be sent, each when it is due. It runs in the stream's sender."""
        core = self.core
        with core.mu:
            if turn.over:
                return
            first = core._greeting()
        yield first
        while True:
            with core.mu:
                while True:
                    if turn.over or self._over_locked():
                        return
                    msg, pause = core._next()
                    if msg is not None:
                        break
                    core.wake.wait(pause / SECOND)
            yield msg

    def _watch(self) -> None:
        core = self.core
        abandoned_at = 0
        while True:
            with core.mu:
                over = self._over_locked()
                pause, lost = core._overdue()
            for lock in [] if core.closing else lost:
                log.warning("lock %r lost: %s", lock.name, lock._err)
            if over:
                return
            if self.abandoned:
                core.start_close()
                abandoned_at = abandoned_at or core.clock()
                if core.clock() > abandoned_at + core.ttl.current:
                    self.stop(SessionEndedError("its client is gone"))  # nobody answers
            with core.mu:
                if not core.lost_log and not self._over_locked():
                    core.look.wait(min(pause, core.soonest - core.clock()) / SECOND)

    def _over(self) -> bool:
        with self.core.mu:
            return self._over_locked()

    def _over_locked(self) -> bool:
        return self._stopped or self.core.err is not None


def _obstacle(err: grpc.RpcError) -> str:
    details = getattr(err, "details", None)
    return str(details() if callable(details) else err) or str(err)


_drivers: weakref.WeakSet[Driver] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """End the streams before the interpreter goes; the process's exit ends the sessions."""
    for driver in list(_drivers):
        if driver.core.pid == os.getpid():
            driver.stop(SessionEndedError("the process exits"))
