"""What a session makes of the agent's answers: the other half of its state machine."""

from __future__ import annotations

from raftlock._errors import (
    ClockError,
    LostError,
    RaftLockError,
    lost_for,
    reason_name,
    refused,
)
from raftlock._ledger import NEVER, Ledger, Phase
from raftlock._lock import Lock
from raftlock._proto import session_pb2 as pb
from raftlock._requests import Call, Debt, State

_TRY_AGAIN = frozenset(
    (
        pb.REASON_NO_LEADER,
        pb.REASON_NO_QUORUM,
        pb.REASON_QUEUE_FULL,
        pb.REASON_RATE_LIMITED,
        pb.REASON_UNSPECIFIED,
    )
)
_OURS_BUT_GONE = frozenset((pb.REASON_EXISTS, pb.REASON_SUPERSEDED, pb.REASON_USED_UP))
_GONE_BEFORE = frozenset(
    (
        pb.REASON_NOT_HELD,
        pb.REASON_NOT_FOUND,
        pb.REASON_NOT_OWNER,
        pb.REASON_STALE_TOKEN,
        pb.REASON_LOST,
        pb.REASON_REVOKED,
        pb.REASON_EXPIRED,
        pb.REASON_CANCELLED,
    )
)


class StreamOver(Exception):
    """The stream is of no more use; why, for the next one or for the callers."""


def reading(nanos: int) -> int:
    """Take a reading or a span; one that does not fit is the greatest."""
    return min(nanos, NEVER)


class Taker(Ledger):
    """See the module."""

    def take(self, resp: pb.SessionResponse) -> None:
        """Handle one response. StreamOver means that the stream is of no more use."""
        with self.mu:
            now = self.clock()
            if self.err is not None:
                raise StreamOver(str(self.err))
            # Look at the old V before anything new is believed.
            self._sweep(now)
            kind = resp.WhichOneof("response")
            if kind == "attached":
                self._attached(resp.attached, now)
            elif kind == "answer":
                self._answered(resp.answer, now)
            elif kind == "update":
                self._standing(resp.update.standing, now)
            elif kind == "lease":
                self._leased(resp.lease, now)
            elif kind == "reconciled":
                self._reconciled(resp.reconciled, now)
            elif kind == "reach":
                self.reach = resp.reach.reason
            elif kind == "ended":
                reason = resp.ended.reason
                if reason in (pb.REASON_OK, pb.REASON_UNSPECIFIED):
                    reason = pb.REASON_SESSION_ENDED
                self._finish(refused(reason))
                raise StreamOver(reason_name(reason))

    def _attached(self, a: pb.Attached, now: int) -> None:
        """Take the answer to Open or Resume.

        Its deadline is the session's, not the holds': whether they were revoked
        meanwhile is not known before Reconciled.
        """
        if self.phase is not Phase.ATTACHING or a.seq != self.greeter:
            return
        if a.reason != pb.REASON_OK:
            self._not_attached(a)
        self.acks.add(self.greeter)
        self.attempt, self.down_err = 0, ""
        opening, first = not self.resume, not self.opened.is_set()
        self.resume, self.bound = True, a.stream_bound
        self.ttl.told(reading(a.ttl_nanos))
        if not self.greeted <= reading(a.clock_nanos) <= now:
            self._refuse_clock(a, now, first)
        self.v = max(self.v, self.ttl.believed(reading(a.deadline_nanos)))
        self.opened.set()
        if opening:
            self._flush()
            return
        self.phase = Phase.RECONCILING
        self.out.clear()
        self.out.append((self._reconcile(), None))
        self.wake.notify_all()

    def _refuse_clock(self, a: pb.Attached, now: int, first: bool) -> None:
        err = ClockError(
            f"asked at {self.greeted}, answered at {a.clock_nanos} by the agent's clock, {now} by ours"
        )
        if not first:
            self._finish(err)
            raise StreamOver(str(err))
        # It is open all the same, so it is ended; it holds nothing.
        self.closing = True
        self.refusal = err
        self._abandon(err)

    def _not_attached(self, a: pb.Attached) -> None:
        """Sort refusals: what time may mend is tried on a new stream, the rest is final."""
        err = refused(a.reason, a.detail)
        if a.reason in _OURS_BUT_GONE and not self.resume:
            self.resume = True  # ours, but for a stream or agent that is gone
        elif a.reason not in _TRY_AGAIN:
            self._finish(err)
        raise StreamOver(str(err))

    def _answered(self, a: pb.Answer, now: int) -> None:
        """Take the answer to one sequence, or a repeated one."""
        call = self.calls.get(a.seq)
        if call is None:
            self._late(a, now)
        elif call.acquire:
            self._answered_acquire(call, a, now)
        elif call.lock is not None:
            self._answered_release(call, call.lock, a)
        else:
            self._answered_ttl(call, a)

    def _late(self, a: pb.Answer, now: int) -> None:
        """Take an answer that nobody waits for.

        Of a cancelled acquire, or a repetition, whose standing still says the
        newest.
        """
        debt = self.owed.get(a.seq)
        if debt is not None and debt.unanswered:
            debt.unanswered = False
            self.acks.add(debt.seq)
        if a.HasField("standing"):
            self._standing(a.standing, now)

    def _answered_acquire(self, call: Call, a: pb.Answer, now: int) -> None:
        st = a.standing
        told = st.seq == call.seq and st.state != pb.Standing.STATE_UNSPECIFIED
        if told and a.reason == pb.REASON_OK:
            self._standing(st, now)
            return
        err, lock = _answer_error(a), call.lock
        self._settle(call, err)
        if lock is not None:
            self._fail(lock, err)
        refusal = a.reason not in (pb.REASON_OK, pb.REASON_UNSPECIFIED)
        if a.unknown or not refusal or (told and st.state != pb.Standing.STATE_GONE):
            self._owe(Debt(call.seq))

    def _answered_release(self, call: Call, lock: Lock, a: pb.Answer) -> None:
        """End a release.

        An answer that leaves the hold's fate open turns it into a debt, which is
        repeated until it is known.
        """
        err: RaftLockError | None = None
        if a.reason in _GONE_BEFORE:
            # If it went as released, some repetition of ours did it.
            if lock._gone != pb.REASON_RELEASED:
                err = lost_for(lock._gone, "before it was released")
        elif a.reason not in (pb.REASON_OK, pb.REASON_RELEASED):
            err = refused(a.reason, a.detail, applied="unknown")
            if lock._gone == pb.REASON_UNSPECIFIED:
                self._owe(Debt(lock._seq, token=lock._token))
        self._settle(call, err)
        self._over(lock, err)

    def _answered_ttl(self, call: Call, a: pb.Answer) -> None:
        err: RaftLockError | None = None
        if a.reason == pb.REASON_OK:
            self.ttl.told(self.ttl.asked)
            self.ttl.told(reading(a.ttl_nanos))
        else:
            err = _answer_error(a)
            if a.unknown:
                self.ttl.doubt()
        self.ttl.asked, self.ttl_call = 0, None
        self._settle(call, err)
        self.wake.notify_all()

    def _standing(self, st: pb.Standing, now: int) -> None:
        """Take what the agent says of one acquire. It may be told twice."""
        if st.seq in self.owed:
            # Held or waiting: it is being given back.
            if st.state == pb.Standing.STATE_GONE:
                self._paid(st.seq)
            return
        lock = self.locks.get(st.seq)
        if lock is None:
            # Nobody here wants what the cluster has under this sequence.
            if st.state in (pb.Standing.STATE_WAITING, pb.Standing.STATE_HELD) and st.seq <= self.seq:
                self._owe(Debt(st.seq))
        elif st.state == pb.Standing.STATE_WAITING:
            self._waits(lock)
        elif st.state == pb.Standing.STATE_HELD:
            self._holds(lock, st, now)
        elif st.state == pb.Standing.STATE_GONE:
            self._went(lock, st)

    def _waits(self, lock: Lock) -> None:
        if lock._state is not State.ASKED:
            return
        lock._state = State.WAITING
        call = self.calls.get(lock._seq)
        if call is not None:
            self._settle(call, None)

    def _holds(self, lock: Lock, st: pb.Standing, now: int) -> None:
        """Take a grant, or news of a hold.

        A hold's deadline is the one told for itself; news of it moves it forward
        unless it is revoked.
        """
        told = self.ttl.believed(reading(st.deadline_nanos))
        if lock._state in (State.ASKED, State.WAITING):
            self._granted(lock, st.token, told, now)
        elif lock._state is State.HELD:
            if st.token != lock._token:
                self._lose(lock, lost_for(pb.REASON_STALE_TOKEN, "the agent names another token"))
                self._owe(Debt(lock._seq))
                return
            if not st.revoked and not lock._frozen:
                lock._deadline = max(lock._deadline, told)
        lock._stream = self.stream
        if st.revoked and lock._state is State.HELD:
            if told:
                lock._deadline = min(lock._deadline, told)
            lock._frozen = True
            lock._revoked.set()
            self._expect(lock._deadline)

    def _granted(self, lock: Lock, token: int, deadline: int, now: int) -> None:
        call = self.calls.get(lock._seq)
        if call is not None:
            self._settle(call, None)
        lock._state, lock._token, lock._deadline = State.HELD, token, deadline
        # A grant that reaches us past its V was never held as far as the caller
        # can tell; it is given back like any other.
        self._expect(deadline)
        self._sweep(now)
        if lock._state is State.HELD:
            lock._ready.set()

    def _went(self, lock: Lock, st: pb.Standing) -> None:
        """The cluster has nothing under this sequence any more."""
        lock._gone = st.reason or pb.REASON_LOST
        if lock._state in (State.ASKED, State.WAITING):
            err = refused(lock._gone)
            call = self.calls.get(lock._seq)
            if call is not None:
                self._settle(call, err)
            self._fail(lock, err)
        elif lock._state is State.HELD:
            self._lose(lock, lost_for(lock._gone))

    def _leased(self, lease: pb.Lease, now: int) -> None:
        """Move V of the session, and of the holds that this stream has spoken of.

        What became of the others while no stream was there is not known yet.
        """
        if reading(lease.clock_nanos) > now:
            return  # not our clock: nothing can be made of it
        told = self.ttl.believed(reading(lease.deadline_nanos))
        self.v = max(self.v, told)
        for lock in self.locks.values():
            if lock._state is State.HELD and lock._stream == self.stream and not lock._frozen:
                lock._deadline = max(lock._deadline, told)

    def _reconciled(self, r: pb.Reconciled, now: int) -> None:
        """Take what the cluster has of what was named. What it does not mention is not there."""
        if self.phase is not Phase.RECONCILING:
            return
        mentioned = set()
        for st in r.standings:
            mentioned.add(st.seq)
            self._standing(st, now)
        for a in r.answers:
            self._answered(a, now)
        for seq in self.named - mentioned:
            lock = self.locks.get(seq)
            if lock is not None:
                self._missing(lock)
        for seq, debt in list(self.owed.items()):
            # A lost hold that was not named is released by the reconcile itself.
            # A cancel stays: its acquire may still be on its way.
            if debt.token and seq not in self.named and seq not in mentioned:
                self._paid(seq)
        self._flush()

    def _missing(self, lock: Lock) -> None:
        """Give back a hold or wait that was named and not mentioned."""
        if lock._state is State.WAITING:
            self._fail(lock, refused(pb.REASON_NOT_WAITING, "the cluster does not know the wait"))
            self._owe(Debt(lock._seq))
        elif lock._state is State.HELD:
            why = LostError("the cluster does not know the hold")
            why.__cause__ = refused(pb.REASON_NOT_HELD)
            self._lose_and_give_back(lock, why)


def _answer_error(a: pb.Answer) -> RaftLockError:
    return refused(a.reason, a.detail, applied="unknown" if a.unknown else "no")
