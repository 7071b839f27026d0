"""An agent with the cluster behind it, on virtual time, and a judge of the client.

World steps a session's state machine message by message, as its driver would:
no thread, no socket, no sleep. FakeAgent fails the test when the client breaks
the contract. FakeClient is the client over both.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import raftlock
from raftlock._client import Client
from raftlock._clock import SECOND
from raftlock._core import Core
from raftlock._ledger import Phase
from raftlock._proto import session_pb2 as pb
from raftlock._take import StreamOver
from raftlock._ttls import holders_share

OK = pb.REASON_OK
STRANGER = -1
WAITING, HELD, GONE = pb.Standing.STATE_WAITING, pb.Standing.STATE_HELD, pb.Standing.STATE_GONE
TTL = 10 * SECOND


class Cut:
    """Break the stream at one message: request number at, or response."""

    def __init__(self, at: int, response: bool = False, late: bool = False) -> None:
        self.at, self.response, self.late = at, response, late


class Record:
    def __init__(self, kind: str, body: Any = None) -> None:
        self.kind, self.body = kind, body
        self.standing: pb.Standing | None = None  # of acquires
        self.answer: pb.Answer | None = None  # of the others
        self.delivered = False


class FakeLock:
    def __init__(self) -> None:
        self.holder = 0  # 0: free
        self.queue: list[int] = []


class FakeStream:
    def __init__(self) -> None:
        self.closed = self.greeted = self.resumed = self.reconciled = False
        self.next = 0
        self.named: set[int] = set()
        self.queue: list[pb.SessionResponse] = []


def sequence(m: pb.SessionRequest) -> tuple[int, str]:
    kind = m.WhichOneof("request")
    kind = {"set_ttl": "ttl"}.get(kind, kind)
    body = getattr(m, m.WhichOneof("request"))
    return getattr(body, "seq", 0), kind


class FakeAgent:
    def __init__(self, world: World) -> None:
        self.world = world
        self.wrong: list[str] = []
        self.stream: FakeStream | None = None
        self.away = self.silent = self.deaf = self.shy = False
        self.cuts: list[Cut] = []
        self.requests = self.replies = self.dials = 0
        self.log: list[pb.SessionRequest] = []
        self.id = self.secret = b""
        self.opened = False
        self.ended = 0
        self.ttl = self.v = self.token = self.mark = 0
        self.locks: dict[str, FakeLock] = {}
        self.seqs: dict[int, Record] = {}
        self.refuse: dict[str, pb.Answer] = {}
        self.attach: Callable[[pb.Attached], None] | None = None
        self.on_request: Callable[[pb.SessionRequest], None] | None = None
        self.promised: dict[int, int] = {}

    def now(self) -> int:
        return self.world.now

    def check(self, good: bool, why: str) -> None:
        if not good:
            self.wrong.append(why)

    def dial(self) -> FakeStream:
        self.dials += 1
        if self.away:
            raise OSError("nobody listens")
        if self.stream is not None:
            self.stream.closed = True
        self.stream = FakeStream()
        return self.stream

    # The wire.

    def _hit(self, n: int, response: bool) -> tuple[bool, bool]:
        for c in self.cuts:
            if c.at == n and c.response == response:
                return True, c.late
        return False, False

    def send(self, st: FakeStream, m: pb.SessionRequest) -> None:
        self.requests += 1
        lost, late = self._hit(self.requests, False)
        if lost and not late:
            st.closed = True
            return
        if late:
            st.closed = True  # it is taken, but the client hears no answer to it
        m = pb.SessionRequest.FromString(m.SerializeToString())
        self.log.append(m)
        self.judge(st, m)
        self.handle(st, m)
        if self.on_request is not None:
            self.on_request(m)

    def say(self, st: FakeStream | None = None, **response: Any) -> None:
        st = st or self.stream
        if st is None or st.closed:
            return
        self.replies += 1
        if self._hit(self.replies, True)[0]:
            st.closed = True
            return
        m = pb.SessionResponse(**response)
        st.queue.append(pb.SessionResponse.FromString(m.SerializeToString()))

    def delivered(self, m: pb.SessionResponse) -> None:
        """Note which answers the client really has."""

        def note(seq: int) -> None:
            if seq in self.seqs:
                self.seqs[seq].delivered = True

        def standing(s: pb.Standing) -> None:
            note(s.seq)
            if s.state == HELD:
                self.promise(s.seq, s.deadline_nanos)

        kind = m.WhichOneof("response")
        if kind == "attached":
            note(m.attached.seq)
        elif kind == "answer":
            note(m.answer.seq)
            standing(m.answer.standing)
        elif kind == "update":
            standing(m.update.standing)
        elif kind == "reconciled":
            for s in m.reconciled.standings:
                standing(s)
            for a in m.reconciled.answers:
                note(a.seq)
        elif kind == "lease":
            for seq in self.promised:
                s = self.seqs[seq].standing
                if s is None or not s.revoked:
                    self.promise(seq, m.lease.deadline_nanos)

    def promise(self, seq: int, v: int) -> None:
        """Note until when a hold may be thought valid; one that has passed is not renewed."""
        old = self.promised.get(seq)
        if old is None or self.now() < old:
            self.promised[seq] = max(old or 0, v)

    # The judge.

    def judge(self, st: FakeStream, m: pb.SessionRequest) -> None:
        seq, kind = sequence(m)
        greeting = kind in ("open", "resume")
        self.check(greeting != st.greeted, f"{kind}: greeted {st.greeted}")
        st.greeted = True
        st.resumed |= kind == "resume"
        if st.resumed and not st.reconciled:
            self.check(greeting or kind in ("beat", "reconcile"), f"{kind} before reconcile")
        self.judge_acks(m)
        if kind in ("open", "resume", "beat"):
            at = getattr(m, kind).clock_nanos
            self.check(at == self.now(), f"{kind}: reading of {at} at {self.now()}")
        if not seq:
            return
        self.check(seq > m.ack_mark and seq not in m.ack_above, f"{kind} {seq} acknowledges itself")
        self.check(seq > self.mark, f"{kind} {seq} at or below the mark {self.mark}")
        self.check(
            not st.reconciled or seq >= st.next or seq in st.named,
            f"{kind} {seq} is below next {st.next} and was not named",
        )
        body = pb.SessionRequest()
        body.CopyFrom(m)
        body.ack_mark = 0
        del body.ack_above[:]
        if kind == "open":
            body.open.clock_nanos = 0
        r = self.seqs.get(seq)
        if r is None:
            self.seqs[seq] = Record(kind, body)
            return
        self.check(kind != "resume", f"resume {seq} repeated")
        self.check(r.body == body, f"sequence {seq} names two requests:\n{r.body}\n{body}")

    def judge_acks(self, m: pb.SessionRequest) -> None:
        self.check(m.ack_mark >= self.mark, f"mark fell from {self.mark} to {m.ack_mark}")
        self.check(len(m.ack_above) <= 1024, f"{len(m.ack_above)} acknowledged above the mark")
        self.mark = max(self.mark, m.ack_mark)
        for seq, r in self.seqs.items():
            if seq <= m.ack_mark or seq in m.ack_above:
                self.check(
                    r.delivered or r.kind == "resume", f"{r.kind} {seq} acknowledged without an answer"
                )

    # The agent.

    def handle(self, st: FakeStream, m: pb.SessionRequest) -> None:
        kind = m.WhichOneof("request")
        if self.deaf and kind not in ("beat", "open", "resume"):
            return
        if kind == "open":
            self.open(st, m.open)
        elif kind == "resume":
            r = m.resume
            self.check(self.opened and (self.id, self.secret) == (r.session, r.secret), "another's resume")
            self.attached(st, r.seq, r.clock_nanos)
        elif kind == "beat":
            if self.opened and not self.silent:
                self.lease(m.beat.clock_nanos + holders_share(self.ttl), st)
        elif kind == "acquire":
            self.acquire(st, m.acquire)
        elif kind == "cancel":
            self.cancel(st, m.cancel.target)
        elif kind == "release":
            self.release(st, m.release)
        elif kind == "set_ttl":
            self.set_ttl(st, m.set_ttl)
        elif kind == "reconcile":
            self.reconcile(st, m.reconcile)
        elif kind == "end":
            self.end(pb.REASON_SESSION_ENDED)
            self.say(st, ended=pb.Ended(reason=pb.REASON_SESSION_ENDED))

    def open(self, st: FakeStream, o: pb.Open) -> None:
        if not self.opened:
            self.opened, self.id, self.secret, self.ttl = True, o.session, o.secret, o.ttl_nanos
        self.check((self.id, self.secret) == (o.session, o.secret), "another session")
        self.check(len(o.session) == 16 and len(o.secret) == 32, "id and secret")
        self.attached(st, o.seq, o.clock_nanos)

    def attached(self, st: FakeStream, seq: int, sent: int) -> None:
        if self.shy:
            return
        self.v = max(self.v, sent + holders_share(self.ttl))
        a = pb.Attached(seq=seq, reason=OK, deadline_nanos=self.v, ttl_nanos=self.ttl, clock_nanos=self.now())
        if self.ended:
            a.reason = self.ended
        attach, self.attach = self.attach, None
        if attach:
            attach(a)
        self.say(st, attached=a)

    def lease(self, v: int, st: FakeStream | None = None) -> None:
        self.v = max(self.v, v)
        self.say(st, lease=pb.Lease(deadline_nanos=v, clock_nanos=self.now()))

    def lock(self, name: str) -> FakeLock:
        return self.locks.setdefault(name, FakeLock())

    def _refusal(self, st: FakeStream, kind: str, seq: int) -> bool:
        a = self.refuse.pop(kind, None)
        if a is None:
            return False
        a.seq = seq
        self.say(st, answer=a)
        return True

    def acquire(self, st: FakeStream, a: pb.Acquire) -> None:
        if self._refusal(st, "acquire", a.seq):
            return
        r = self.seqs[a.seq]
        if r.standing is None:
            r.standing = pb.Standing(seq=a.seq, lock=a.lock)
            lock = self.lock(a.lock)
            if not lock.holder:
                self.grant(lock, a.seq)
            elif getattr(a, "try"):
                r.standing.state, r.standing.reason = GONE, pb.REASON_HELD
            else:
                r.standing.state = WAITING
                lock.queue.append(a.seq)
        reason = r.standing.reason if r.standing.state == GONE else OK
        self.say(st, answer=pb.Answer(seq=a.seq, reason=reason, standing=self.told(a.seq)))

    def grant(self, lock: FakeLock, seq: int) -> None:
        self.token += 1
        lock.holder = seq
        r = self.seqs.get(seq)
        if r is not None and r.standing is not None:
            r.standing.state, r.standing.token = HELD, self.token

    def told(self, seq: int) -> pb.Standing:
        s = pb.Standing()
        s.CopyFrom(self.seqs[seq].standing)
        if s.state == HELD and not s.deadline_nanos:
            s.deadline_nanos = self.v
        return s

    def update(self, seq: int, st: FakeStream | None = None) -> None:
        self.say(st, update=pb.Update(standing=self.told(seq)))

    def leave(self, seq: int, reason: int) -> None:
        """Take a hold or wait away and grant the next, which is told."""
        for name in sorted(self.locks):
            lock = self.locks[name]
            lock.queue = [q for q in lock.queue if q != seq]
            if lock.holder == seq:
                lock.holder = 0
                self._pass_on(lock)
        r = self.seqs.get(seq)
        if r is not None and (r.standing is None or r.standing.state != GONE):
            name = r.standing.lock if r.standing is not None else ""
            r.standing = pb.Standing(seq=seq, lock=name, reason=reason, state=GONE)

    def _pass_on(self, lock: FakeLock) -> None:
        if lock.queue:
            following = lock.queue.pop(0)
            self.grant(lock, following)
            if following != STRANGER:
                self.update(following)

    def cancel(self, st: FakeStream, target: int) -> None:
        r = self.seqs.setdefault(target, Record("acquire"))
        if r.standing is None:
            r.standing = pb.Standing(seq=target, state=WAITING)
        self.leave(target, pb.REASON_CANCELLED)
        self.update(target, st)

    def release(self, st: FakeStream, r: pb.Release) -> None:
        self.check(r.lost == (r.seq == 0), f"release {r}")
        if r.seq and self._refusal(st, "release", r.seq):
            return
        hold = self.seqs[r.hold]
        if hold.standing is None:  # forgotten by a test
            hold.standing = pb.Standing(seq=r.hold, state=GONE)
        reason = pb.REASON_NOT_HELD
        if hold.standing.state == HELD and hold.standing.token == r.token:
            reason = OK
            self.leave(r.hold, pb.REASON_LOST if r.lost else pb.REASON_RELEASED)
        if not r.seq:
            self.update(r.hold, st)
            return
        record = self.seqs[r.seq]
        if record.answer is None:
            record.answer = pb.Answer(seq=r.seq, reason=reason)
        self.say(st, answer=record.answer)

    def set_ttl(self, st: FakeStream, r: pb.SetTTL) -> None:
        if self._refusal(st, "ttl", r.seq):
            return
        record = self.seqs[r.seq]
        if record.answer is None:
            self.ttl = r.ttl_nanos
            v = self.now() + holders_share(self.ttl)
            self.v = min(self.v, v)
            self.promised = {seq: min(old, v) for seq, old in self.promised.items()}
        record.answer = pb.Answer(seq=r.seq, reason=OK, ttl_nanos=r.ttl_nanos)
        self.say(st, answer=record.answer)

    def reconcile(self, st: FakeStream, r: pb.Reconcile) -> None:
        self.check(st.resumed and not st.reconciled, "reconcile out of place")
        st.reconciled, st.next = True, r.next
        standings, answers, unseen = [], [], []
        last = 0
        for b in r.named:
            self.check(last < b.seq < r.next, f"named {b.seq} after {last}, next {r.next}")
            last = b.seq
            st.named.add(b.seq)
            record = self.seqs.get(b.seq)
            if record is not None and record.standing is not None:
                self.check(b.lock == record.standing.lock, f"named {b}, known {record.standing}")
                standings.append(b.seq)
            elif record is not None and record.answer is not None:
                answers.append(record.answer)
            else:
                unseen.append(b.seq)
        for seq, record in list(self.seqs.items()):
            self.check(seq < r.next, f"sequence {seq} was used, next is {r.next}")
            if record.standing is not None and seq not in st.named:
                self.leave(seq, pb.REASON_RELEASED)
        # What that gave away may have granted a named wait.
        said = [self.told(seq) for seq in standings]
        self.say(st, reconciled=pb.Reconciled(standings=said, answers=answers, unseen=unseen))

    def end(self, reason: int) -> None:
        self.ended = reason
        for seq, r in list(self.seqs.items()):
            if r.standing is not None:
                self.leave(seq, pb.REASON_SESSION_ENDED)

    # What tests do to the agent and the cluster, and look at.

    def stranger_takes(self, name: str) -> None:
        lock = self.lock(name)
        if lock.holder:
            lock.queue.append(STRANGER)
        else:
            self.grant(lock, STRANGER)

    def stranger_leaves(self, name: str) -> None:
        lock = self.lock(name)
        if lock.holder == STRANGER:
            lock.holder = 0
            self._pass_on(lock)

    def break_stream(self) -> None:
        if self.stream is not None:
            self.stream.closed = True
        self.world.settle()

    def holder(self, name: str) -> int:
        return self.lock(name).holder

    def sent(self) -> list[str]:
        """The requests that reached the agent, without beats."""
        kinds = []
        for m in self.log:
            seq, kind = sequence(m)
            if kind != "beat":
                kinds.append("lost" if kind == "release" and not seq else kind)
        return kinds

    def leftovers(self) -> list[str]:
        """What the session still has in the cluster."""
        return [
            f"{name}: {seq}"
            for name, lock in self.locks.items()
            for seq in [lock.holder, *lock.queue]
            if seq not in (0, STRANGER)
        ]


class World:
    """Virtual time for one session and its agent."""

    HOUR = 3600 * SECOND

    def __init__(self) -> None:
        self.now = self.HOUR
        self.agent = FakeAgent(self)
        self.core: Core | None = None
        self._stream: FakeStream | None = None
        self._redial_at: int | None = None
        self._timers: list[tuple[int, Callable[[], None]]] = []
        self.jitter = 0.5
        self.on_close: Callable[[], None] | None = None

    def adopt(self, core: Core) -> None:
        self.core = core
        core.wait = self.wait
        self._redial_at = self.now

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        self._timers.append((self.now + round(seconds * SECOND), do))

    def jump(self, nanos: int) -> None:
        """Let the clock run while no timer does: a pause, or a suspended host."""
        self.now += nanos

    def wait(self, event: threading.Event, timeout: float | None) -> bool:
        return self.run_until(event.is_set, timeout)

    def run(self, seconds: float) -> None:
        self.run_until(lambda: False, seconds)

    def settle(self) -> None:
        """Let everything happen that can happen now."""
        self.run_until(lambda: False, 0)

    def run_until(self, true: Callable[[], bool], timeout: float | None) -> bool:
        end = self.now + (self.HOUR if timeout is None else round(timeout * SECOND))
        while True:
            self._pump()
            if true():
                return True
            following = min([at for at, _ in self._timers] + self._due(), default=end)
            if following > end or self.now >= end:
                assert timeout is not None, "an hour passed"
                self.now = max(self.now, end)
                self._fire()
                self._pump()
                return true()
            self.now = max(self.now, following)
            self._fire()

    def _due(self) -> list[int]:
        core = self.core
        if core is None or core.err is not None:
            return []
        due = [self._redial_at] if self._redial_at is not None else []
        if self._stream is not None:
            due.append(core.last_beat + core.ttl.low() // 9)
        due += [lock._deadline for lock in core.locks.values() if lock._deadline > self.now]
        return due

    def _fire(self) -> None:
        due = [t for t in self._timers if t[0] <= self.now]
        self._timers = [t for t in self._timers if t[0] > self.now]
        for _, do in sorted(due, key=lambda t: t[0]):
            do()

    def _pump(self) -> None:
        core = self.core
        if core is None:
            return
        while core.err is None and self._step(core):
            pass
        core.overdue()

    def _step(self, core: Core) -> bool:
        if self._stream is None:
            if self._redial_at is None or self._redial_at > self.now:
                return False
            self._redial_at = None
            try:
                self._stream = self.agent.dial()
            except OSError as err:
                self._broken(core, str(err))
                return True
            self.agent.send(self._stream, core.greeting())
            return True
        st = self._stream
        if st.queue:
            m = st.queue.pop(0)
            self.agent.delivered(m)
            try:
                core.take(m)
            except StreamOver as err:
                self._broken(core, str(err))
            return True
        if st.closed:
            self._broken(core, "stream cut")
            return True
        msg, _ = core.next()
        if msg is not None:
            self.agent.send(st, msg)
        return msg is not None

    def _broken(self, core: Core, why: str) -> None:
        core.unbound(why)
        if self.on_close:
            self.on_close()
        if self._stream is not None:
            self._stream.closed = True
        self._stream = None
        self._redial_at = self.now + core.down(why, self.jitter)


class FakeDriver:
    def __init__(self, world: World, core: Core) -> None:
        self.world, self.core, self.abandoned = world, core, False
        world.adopt(core)

    def close(self, timeout: float | None) -> bool:
        self.core.start_close()
        confirmed = self.world.run_until(self.core.done.is_set, timeout)
        self.core.finish(raftlock.SessionEndedError("closed"))
        return confirmed


class FakeClient(Client):
    """The client on virtual time. It has one session."""

    def __init__(self, world: World | None = None, **kwargs: Any) -> None:
        self.world = world or World()
        super().__init__("/nowhere.sock", _clock=lambda: self.world.now, **kwargs)

    def _open(self, ttl: int) -> Any:
        core = Core(ttl=ttl, clock=self._clock, lease_on_exit=self._lease_on_exit, where="the agent")
        return FakeDriver(self.world, core)

    @property
    def agent(self) -> FakeAgent:
        return self.world.agent

    @property
    def core(self) -> Core:
        assert self.world.core is not None
        return self.world.core

    def ask(self, name: str, **kwargs: Any) -> raftlock.Lock:
        """Ask for a lock without waiting for it."""
        lock = self._session(self._ttl).core.ask(name, **kwargs)
        self.world.settle()
        return lock


@contextmanager
def story(**kwargs: Any):
    """A client with an open session; at the end nothing may be left behind."""
    client = FakeClient(**kwargs)
    client._session(client._ttl)
    agent, world = client.agent, client.world
    world.settle()
    yield client
    if agent.deaf or agent.shy:
        agent.stream.closed = True  # what it did not hear is said again
    agent.away = agent.deaf = agent.shy = False
    client.close(timeout=60)
    assert agent.leftovers() == [], "left in the cluster"
    assert agent.wrong == []


def want_lost(lock: raftlock.Lock) -> None:
    """Check that a handle says so in every way it can."""
    assert not lock.valid()
    assert lock.left() == 0
    for look in (lambda: lock.token, lock.release):
        try:
            look()
        except raftlock.LostError:
            continue
        raise AssertionError("not lost")
    assert lock.lost.is_set()


__all__ = [
    "GONE", "HELD", "OK", "STRANGER", "TTL", "WAITING", "Cut", "FakeAgent", "FakeClient", "Phase", "Record",
    "World", "holders_share", "pb", "sequence", "story", "want_lost",
]  # fmt: skip
