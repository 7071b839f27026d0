"""What one session believes and owes: the half that needs no answer from an agent.

A Ledger is data under one mutex and starts nothing. Every method whose name
begins with an underscore is called with the mutex held; nothing blocks under it.
"""

from __future__ import annotations

import enum
import os
import threading
from collections import deque
from collections.abc import Callable

from raftlock._acks import Acks
from raftlock._clock import Clock
from raftlock._errors import LostError, doubtful, ended_for, lost_for
from raftlock._lock import Lock
from raftlock._mutex import Mutex, to_take
from raftlock._proto import session_pb2 as pb
from raftlock._requests import Call, Debt, State
from raftlock._ttls import TTLs

NEVER = (1 << 63) - 1


class Phase(enum.Enum):
    """How far the current stream has come."""

    DOWN = 0  # no stream
    ATTACHING = 1  # Open or Resume sent
    RECONCILING = 2  # Reconcile sent
    READY = 3  # requests flow


class Ledger:
    """See the module."""

    def __init__(
        self,
        *,
        ttl: int,
        clock: Clock,
        random: Callable[[int], bytes] = os.urandom,
        lease_on_exit: bool = False,
        where: str = "the agent",
    ) -> None:
        self.clock = clock
        self.pid = os.getpid()
        self.id = random(16)
        self.secret = random(32)
        self.opening_ttl = ttl
        self.wanted_ttl = ttl  # asked for last
        self.lease_on_exit = lease_on_exit
        self.where = where
        # How callers wait for an event, at most so many seconds; tests wait on
        # virtual time.
        self.wait: Callable[[threading.Event, float | None], bool] = threading.Event.wait

        # mu guards everything below and every Lock's private part.
        self._mu = Mutex()
        self.wake = threading.Condition(self._mu)  # something to send, or the stream is over
        self.look = threading.Condition(self._mu)  # a deadline came nearer, or something to log
        self.done = threading.Event()  # the session is over; err is set before
        self.opened = threading.Event()  # attached once

        self.phase = Phase.DOWN
        self.stream = 0  # number of the current or last stream, from 1
        self.attempt = 0  # dials since the last Attached
        self.down_err = ""  # why there is no stream
        self.resume = False  # Open was answered: say Resume
        self.bound = False  # the end of the stream ends the session
        self.reach: int = pb.REASON_UNSPECIFIED  # as this stream's agent told last
        self.greeted = 0  # the clock when Open or Resume was sent
        self.greeter = 0  # the sequence of the Open or Resume in flight
        self.last_beat = 0
        self.v = 0
        self.soonest = NEVER  # no hold's V is earlier

        self.seq = 0  # the last one made
        self.acks = Acks()
        self.calls: dict[int, Call] = {}  # unanswered, by sequence
        self.locks: dict[int, Lock] = {}  # asked for to releasing; by the acquire's sequence
        self.owed: dict[int, Debt] = {}  # must be given back; by the acquire's sequence
        self.named: set[int] = set()  # what this stream's Reconcile named
        self.out: deque[tuple[pb.SessionRequest, Call | None]] = deque()  # for this stream

        self.ttl = TTLs(ttl)
        self.ttl_call: Call | None = None
        self.lost_log: list[Lock] = []
        self.closing = False
        self.refusal: BaseException | None = None  # it was opened, but cannot be used
        self.err: BaseException | None = None  # why it is over

    @property
    def mu(self) -> threading.RLock:
        """The mutex, to be entered at once. RuntimeError: this thread has it."""
        return to_take(self._mu)

    # Requests, from their making to their answer.

    def _new_call(
        self, build: Callable[[int], pb.SessionRequest], lock: Lock | None = None, acquire: bool = False
    ) -> Call:
        self.seq += 1
        if lock is not None and acquire:
            lock._seq = self.seq
            self.locks[lock._seq] = lock
        call = Call(self.seq, build(self.seq), lock, acquire)
        self.calls[call.seq] = call
        self._post(call.template, call)
        return call

    def _post(self, msg: pb.SessionRequest, call: Call | None = None) -> None:
        """Queue msg if requests flow; otherwise the state is what will be sent."""
        if self.phase is Phase.READY and not self.closing:
            self.out.append((msg, call))
            self.wake.notify_all()

    def _settle(self, call: Call, err: BaseException | None) -> None:
        """End a call that was answered, which acknowledges it."""
        self.acks.add(call.seq)
        self._drop(call, err)

    def _drop(self, call: Call, err: BaseException | None) -> None:
        """End a call; nobody waits for its answer any more."""
        self.calls.pop(call.seq, None)
        call.err = err
        call.lock = None  # handle and release name each other: neither would go before a collection
        call.done.set()

    def _owe(self, debt: Debt) -> None:
        self.owed[debt.seq] = debt
        self._post(debt.request())

    def _paid(self, seq: int) -> None:
        """End a debt: the session knows that nothing is left of it."""
        if self.owed.pop(seq, None) is not None:
            self.acks.add(seq)

    def _flush(self) -> None:
        """Queue all that must be said on a stream that is ready.

        First what is given back, so that no new acquire of a lock overtakes it.
        """
        self.phase = Phase.READY
        self.out.clear()
        if self.closing:
            self.out.append((pb.SessionRequest(end=pb.End()), None))
        else:
            for seq in sorted(self.owed):
                self._post(self.owed[seq].request())
            for seq in sorted(self.calls):
                self._post(self.calls[seq].template, self.calls[seq])
        self.wake.notify_all()

    def _reconcile(self) -> pb.SessionRequest:
        """List all that is believed now.

        Requests made later have sequences at or above next; the ones that were
        cancelled or lost are left out, and go by that too.
        """
        named = {}
        for seq, call in self.calls.items():
            named[seq] = pb.Belief(seq=seq, lock=call.lock.name if call.acquire and call.lock else "")
        for seq, lock in self.locks.items():
            if lock._state is not State.ASKED:
                named[seq] = pb.Belief(seq=seq, token=lock._token, lock=lock.name)
        self.named = set(named)
        return pb.SessionRequest(
            reconcile=pb.Reconcile(next=self.seq + 1, named=[named[seq] for seq in sorted(named)])
        )

    # The ends of handles.

    def _over(self, lock: Lock, err: BaseException | None) -> None:
        """End a handle; err is None if it was released."""
        if lock._state is State.OVER:
            return
        lock._state, lock._err = State.OVER, err
        self.locks.pop(lock._seq, None)

    def _fail(self, lock: Lock, err: BaseException) -> None:
        """End an acquire that was not granted."""
        self._over(lock, err)
        lock._ready.set()

    def _lose(self, lock: Lock, err: BaseException) -> None:
        """End a handle whatever its state; err says why."""
        held = lock._state is State.HELD
        handed_out = lock._ready.is_set()
        self._over(lock, err)
        lock._ready.set()
        if held and handed_out:
            lock._lost.set()
            self.lost_log.append(lock)
            self.look.notify_all()

    def _lose_and_give_back(self, lock: Lock, err: BaseException) -> None:
        """Lose a hold by our own judgement: the cluster still has it."""
        self._lose(lock, err)
        self._owe(Debt(lock._seq, token=lock._token))

    def _sweep(self, now: int) -> None:
        """Lose every hold whose V has passed.

        Everything that looks at a hold or moves a V comes here first, with a
        reading taken for it: that is what makes a loss final.
        """
        if now < self.soonest:
            return
        self.soonest = NEVER
        for lock in list(self.locks.values()):
            if lock._state is not State.HELD:
                continue
            if now >= lock._deadline:
                self._lose_and_give_back(lock, lost_for(pb.REASON_LOST, "its deadline passed"))
            else:
                self.soonest = min(self.soonest, lock._deadline)

    def _expect(self, v: int) -> None:
        """Note that a hold's V is now v: new, or earlier than before."""
        self.soonest = min(self.soonest, v)
        self.look.notify_all()

    def _lower(self, v: int) -> None:
        """Bring every V down to at most v."""
        self.v = min(self.v, v)
        for lock in self.locks.values():
            if lock._state is State.HELD:
                lock._deadline = min(lock._deadline, v)
        self._expect(v)

    # The end of the session.

    def _abandon(self, err: BaseException) -> None:
        """Lose every hold and fail every wait and request.

        What was sent may have had its effect before the session ended.
        """
        for lock in list(self.locks.values()):
            if lock._state is State.HELD:
                lost = LostError("its session is over")
                lost.__cause__ = err
                self._lose(lock, lost)
            else:
                call = self.calls.get(lock._seq)
                self._lose(lock, err if call is not None and not call.sent else doubtful(err))
        for call in list(self.calls.values()):
            self._drop(call, doubtful(err) if call.sent else err)

    def _finish(self, cause: BaseException) -> None:
        """End the session for this process. Only the first call counts.

        Of one that was never opened the cause itself is what callers see.
        """
        if self.err is not None:
            return
        self.err = ended_for(cause) if self.opened.is_set() else cause
        self._abandon(self.err)
        self.owed.clear()
        self.out.clear()
        self.done.set()
        self.wake.notify_all()
        self.look.notify_all()
