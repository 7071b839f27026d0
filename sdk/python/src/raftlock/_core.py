"""The session's state machine: what is asked, what is sent, what is made of answers.

It starts no thread and reads nothing but the clock it was given, so that tests
step it message by message. Its threads are in _driver. Methods without an
underscore take the mutex, and are safe from any thread.
"""

from __future__ import annotations

from raftlock._clock import SECOND
from raftlock._errors import (
    InvalidError,
    QueueFullError,
    RaftLockError,
    ReleasedError,
    SessionEndedError,
    again,
    given_up,
)
from raftlock._ledger import Phase
from raftlock._lock import Lock
from raftlock._proto import session_pb2 as pb
from raftlock._requests import Call, Debt, State, bounded
from raftlock._take import Taker
from raftlock._ttls import holders_share

# Bound on the unanswered requests and debts of a session. Releases are beyond
# it: holds bound them.
CALLS_MAX = 1024
# Nine beats a TTL; the agent vouches while the last one is younger than TTL/3.
BEAT_SHARE = 9
REDIAL_MIN = SECOND // 100
REDIAL_MAX = SECOND
TTL_MIN = SECOND // 5


class Core(Taker):
    """One session. See the module."""

    # Sending.

    def greeting(self) -> pb.SessionRequest:
        """Make the first request of a new stream.

        Open keeps its sequence until it is answered. Resume has a new one on each
        stream: the answer that an old one may still get speaks of an attachment
        that is gone, so the old sequence is abandoned, which is to say
        acknowledged.
        """
        with self.mu:
            return self._greeting()

    def _greeting(self) -> pb.SessionRequest:
        self.stream += 1
        self.phase = Phase.ATTACHING
        self.out.clear()
        self.named.clear()
        self.reach = pb.REASON_UNSPECIFIED  # a new stream's agent tells first thing
        now = self.greeted = self.last_beat = self.clock()
        if not self.resume:
            if not self.greeter:
                self.seq += 1
                self.greeter = self.seq
            return self._stamped(
                pb.SessionRequest(
                    open=pb.Open(
                        session=self.id,
                        secret=self.secret,
                        seq=self.greeter,
                        ttl_nanos=self.opening_ttl,
                        lease_on_exit=self.lease_on_exit,
                        clock_nanos=now,
                    )
                )
            )
        self.acks.add(self.greeter)
        self.seq += 1
        self.greeter = self.seq
        return self._stamped(
            pb.SessionRequest(
                resume=pb.Resume(
                    session=self.id,
                    secret=self.secret,
                    seq=self.greeter,
                    clock_nanos=now,
                    ttl_nanos=self.ttl.low(),
                    deadline_nanos=self.v,
                )
            )
        )

    def _next(self) -> tuple[pb.SessionRequest | None, int]:
        """Pick what to send now: a beat that is due, else the oldest that still matters.

        With None it says how long until the next beat. The clock is read here and
        the message goes at once: a reading that waited in a queue would vouch for
        a process that stopped meanwhile.
        """
        now = self.clock()
        due = self.last_beat + self.ttl.low() // BEAT_SHARE - now
        if due <= 0:
            self.last_beat = now
            return self._stamped(pb.SessionRequest(beat=pb.Beat(clock_nanos=now))), 0
        while self.out:
            msg, call = self.out.popleft()
            if call is not None:
                if self.calls.get(call.seq) is not call:
                    continue  # cancelled, or answered by a reconcile
                call.sent = True
            return self._stamped(msg), 0
        return None, due

    def next(self) -> tuple[pb.SessionRequest | None, int]:
        """As _next."""
        with self.mu:
            return self._next()

    def _stamped(self, template: pb.SessionRequest) -> pb.SessionRequest:
        msg = pb.SessionRequest()
        msg.CopyFrom(template)
        msg.ack_mark, above = self.acks.named()
        msg.ack_above.extend(above)
        return msg

    def down(self, why: str, jitter: float) -> int:
        """Note why there is no stream and say how long to wait before the next.

        An agent may be back with little of the lease left: no wait is longer than
        the pause between two beats. jitter is drawn from [0, 1).
        """
        with self.mu:
            self.phase = Phase.DOWN
            self.out.clear()
            self.named.clear()
            self.down_err = why
            upper = max(REDIAL_MIN, min(REDIAL_MAX, self.ttl.low() // BEAT_SHARE))
            if self.attempt < 7:
                upper = min(upper, REDIAL_MIN << self.attempt)
            self.attempt += 1
            return REDIAL_MIN + int((upper - REDIAL_MIN) * jitter)

    def unbound(self, why: str) -> None:
        """End the session if its stream was all that kept it.

        Called before the stream is given up: once it is closed, somebody else may
        be granted its locks.
        """
        with self.mu:
            if self.bound and not self.closing:
                self._finish(SessionEndedError(f"its stream is over, and it was bound to that: {why}"))

    # Acquires.

    def ask(
        self,
        name: str,
        *,
        try_: bool = False,
        priority: int = 0,
        metadata: dict[str, str] | None = None,
        trace: pb.Trace | None = None,
        lock: Lock | None = None,
    ) -> Lock:
        """Make an acquire. Its end is obtained's to tell, or undo's; one must be called.

        lock: the handle for it, by which a caller can undo what was interrupted here.
        """
        metadata = dict(metadata or {})
        wrong = bounded(name, priority, metadata)
        if wrong:
            raise InvalidError(wrong)
        with self.mu:
            self._sweep(self.clock())
            self._refuse_if_over()
            if len(self.calls) + len(self.owed) >= CALLS_MAX:
                raise QueueFullError(f"{CALLS_MAX} requests are unanswered")
            lock = lock or Lock(self, name)

            def build(seq: int) -> pb.SessionRequest:
                acquire = pb.Acquire(seq=seq, lock=name, priority=priority, metadata=metadata)
                setattr(acquire, "try", try_)  # a keyword of Python
                return pb.SessionRequest(acquire=acquire, trace=trace)

            self._new_call(build, lock, acquire=True)
            return lock

    def obtained(self, lock: Lock) -> None:
        """Raise why the lock is not held by now; whatever became of it is undone."""
        with self.mu:
            self._sweep(self.clock())
            if lock._state is State.HELD:
                return
            if lock._state is State.OVER:
                raise again(lock._err) if lock._err is not None else ReleasedError()
            call = self.calls.get(lock._seq)
            # What was answered waits: what the agent reaches now is not why.
            reach = pb.REASON_OK if call is None else self.reach
            applied = "no" if call is not None and not call.sent else "unknown"
            err = given_up(reach, applied, self._obstacle(f"lock {lock.name!r}"))
            # The handle's state comes last: what is interrupted before is done again by undo.
            if applied == "unknown":
                self._owe(Debt(lock._seq, unanswered=call is not None))
            if call is not None:
                self._drop(call, err)
            if applied == "no":
                self.acks.add(lock._seq)  # it was never sent
            self._fail(lock, err)
            raise err

    def undo(self, lock: Lock) -> None:
        """Undo an acquire whose handle nobody will have: held, waiting, or not even asked."""
        with self.mu:
            if lock._state is State.ASKED and lock._seq not in self.calls and lock._seq not in self.owed:
                # It was interrupted before there was a request.
                self._over(lock, None)
                if lock._seq:
                    self.acks.add(lock._seq)
                return
        try:
            self.obtained(lock)
        except RaftLockError:
            return
        self.start_release(lock)

    def _obstacle(self, doing: str) -> str:
        """Add what stands in the way of an answer."""
        if not self.down_err or self.phase is Phase.READY:
            return doing
        return f"{doing}: no session stream to {self.where}: {self.down_err}"

    def _refuse_if_over(self) -> None:
        if self.err is not None:
            raise again(self.err)
        if self.closing:
            raise again(self.refusal or SessionEndedError("closed"))

    def gave_up(self, doing: str, applied: str) -> RaftLockError:
        """The error of another call whose timeout passed first."""
        with self.mu:
            return given_up(self.reach, applied, self._obstacle(doing))

    # Handles.

    def token(self, lock: Lock) -> int:
        """The token, if the lock is held now: the clock is compared with V."""
        with self.mu:
            self._sweep(self.clock())
            if lock._state is State.HELD:
                return lock._token
            if lock._state is State.OVER and lock._err is not None:
                raise again(lock._err)
            raise ReleasedError()

    def deadline(self, lock: Lock) -> int:
        """The handle's V."""
        with self.mu:
            self._sweep(self.clock())
            return lock._deadline

    def left(self, lock: Lock) -> int:
        """V less the clock's reading; 0: not held."""
        with self.mu:
            now = self.clock()
            self._sweep(now)
            return lock._deadline - now if lock._state is State.HELD else 0

    def start_release(self, lock: Lock, trace: pb.Trace | None = None) -> Call | None:
        """Return the release under way, which is made by the first call.

        None: the handle ended without one; its error says how.
        """
        with self.mu:
            self._sweep(self.clock())
            if lock._release is not None:
                return lock._release
            if lock._state is not State.HELD:
                return None
            lock._state, before = State.RELEASING, self.seq
            try:
                lock._release = self._new_call(
                    lambda seq: pb.SessionRequest(
                        release=pb.Release(seq=seq, hold=lock._seq, token=lock._token), trace=trace
                    ),
                    lock,
                )
            except BaseException:  # Ctrl-C
                self._release_interrupted(lock, before)
                raise
            return lock._release

    def _release_interrupted(self, lock: Lock, before: int) -> None:
        """Finish the making of a release, or owe what it would have given back."""
        call = self.calls.get(self.seq)
        if call is not None and call.lock is lock:
            lock._release = call
            self._post(call.template, call)
            return
        self._over(lock, None)
        self._owe(Debt(lock._seq, token=lock._token))
        if self.seq > before:
            self.acks.add(self.seq)  # it is never sent

    # The TTL.

    def start_ttl(self, ttl: int) -> tuple[Call | None, Call | None]:
        """Ask for another TTL: the request made, or the one that is under way.

        A smaller one counts for the deadlines here at once, whatever the answer.
        """
        if ttl < TTL_MIN:
            raise InvalidError(f"a TTL is at least {TTL_MIN / SECOND} s")
        with self.mu:
            now = self.clock()
            self._sweep(now)
            self._refuse_if_over()
            if self.ttl_call is not None:
                return None, self.ttl_call
            self.wanted_ttl = ttl
            self.ttl.ask(ttl, now)
            self._lower(now + holders_share(ttl))
            self.ttl_call = self._new_call(
                lambda seq: pb.SessionRequest(set_ttl=pb.SetTTL(seq=seq, ttl_nanos=ttl))
            )
            self.wake.notify_all()  # beats may be due sooner
            return self.ttl_call, None

    # The end.

    def start_close(self) -> None:
        """Give everything up; a stream that is ready, now or later, says End."""
        with self.mu:
            self._sweep(self.clock())
            if self.closing or self.err is not None:
                return
            self.closing = True
            self._abandon(SessionEndedError("closed"))
            if self.phase is Phase.READY:
                self._flush()
            self.wake.notify_all()

    def is_over(self) -> bool:
        """Whether no request is taken any more."""
        with self.mu:
            return self.closing or self.err is not None

    def finish(self, cause: BaseException) -> None:
        """End the session for this process at once."""
        with self.mu:
            self._finish(cause)

    def overdue(self) -> tuple[int, list[Lock]]:
        """Sweep, and say when to look again and what was lost since the last time.

        It looks at least every beat: a timer stands still while the host is
        suspended, the clock does not.
        """
        with self.mu:
            return self._overdue()

    def _overdue(self) -> tuple[int, list[Lock]]:
        now = self.clock()
        self._sweep(now)
        pause = self.ttl.low() // BEAT_SHARE
        for lock in self.locks.values():
            if lock._state is State.HELD:
                pause = min(pause, lock._deadline - now)
        lost, self.lost_log = self.lost_log, []
        return pause, lost
