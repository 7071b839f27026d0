"""Streams: opening, beats, resuming, reconciling, and the end of a session."""

import pytest
from fake import GONE, OK, TTL, Cut, FakeClient, Record, holders_share, pb, story, want_lost

import raftlock

SECOND = 1_000_000_000


def test_open_waits_for_the_agent():
    c = FakeClient()
    c.agent.away = True

    def back():
        c.agent.away = False

    c.world.after(20, back)
    start = c.world.now
    with c.lock("a"):
        assert 20 * SECOND <= c.world.now - start <= 21 * SECOND
    # Jittered from 10 ms to 1 s: it neither storms nor sleeps.
    assert 20 < c.agent.dials < 100
    c.close()


def test_open_gives_up_with_its_timeout():
    c = FakeClient()
    c.agent.away = True
    with pytest.raises(raftlock.WaitTimeout, match="nobody listens") as err:
        c.lock("a", timeout=60)
    assert isinstance(err.value, TimeoutError)


def test_open_is_repeated_with_its_sequence():
    with story() as c:
        c.agent.attach = None
    c = FakeClient()
    c.agent.shy = True
    c.world.after(1, c.agent.break_stream)

    def answer():
        c.agent.shy = False
        c.agent.break_stream()

    c.world.after(2, answer)
    c.lock("a")
    assert c.agent.sent() == ["open", "open", "open", "acquire"]
    assert c.agent.wrong == []
    c.close()


@pytest.mark.parametrize(
    ("reason", "want", "kinds"),
    [
        (pb.REASON_EXISTS, None, ["open", "resume", "reconcile"]),
        (pb.REASON_SUPERSEDED, None, ["open", "resume", "reconcile"]),
        (pb.REASON_NO_LEADER, None, ["open", "open"]),
        (pb.REASON_QUEUE_FULL, None, ["open", "open"]),
        (pb.REASON_DENIED, raftlock.DeniedError, ["open"]),
        (pb.REASON_LIMIT, raftlock.LimitError, ["open"]),
        (pb.REASON_INVALID, raftlock.InvalidError, ["open"]),
    ],
)
def test_answers_to_open(reason, want, kinds):
    c = FakeClient()

    def attach(a):
        a.reason = reason

    c.agent.attach = attach
    if want is None:
        with c.lock("a"):
            pass
        c.close()
    else:
        with pytest.raises(want):
            c.lock("a")
    assert c.agent.sent()[: len(kinds)] == kinds
    assert c.agent.wrong == []


def test_lease_on_exit_is_asked_for_at_open():
    for asked in (False, True):
        with story(lease_on_exit=asked) as c:
            assert c.agent.log[0].open.lease_on_exit is asked


def test_beats():
    with story() as c:
        c.agent.log.clear()
        c.world.run(10)
        assert len(c.agent.log) == 9
        assert all(m.HasField("beat") and m.ack_mark == 1 for m in c.agent.log)


def test_beats_follow_the_least_ttl():
    """From the asking on, whatever the answer will be."""
    with story() as c:
        c.agent.deaf = True
        c.core.start_ttl(SECOND)
        c.world.settle()
        c.agent.log.clear()
        c.world.run(1)
        assert len([m for m in c.agent.log if m.HasField("beat")]) == 9


def test_beats_while_attaching():
    c = FakeClient()
    c.agent.shy = True
    with pytest.raises(raftlock.WaitTimeout):
        c.lock("a", timeout=10)
    assert len([m for m in c.agent.log if m.HasField("beat")]) >= 8
    assert c.agent.wrong == []


def test_resume_tells_all_that_is_believed():
    with story() as c:
        held = c.lock("held")
        c.agent.stranger_takes("waited")
        waited = c.ask("waited")
        c.agent.deaf = True
        asked = c.ask("asked")
        c.agent.deaf = False
        c.agent.break_stream()
        assert c.world.wait(asked._ready, 1)
        i = next(i for i, m in enumerate(c.agent.log) if m.HasField("reconcile"))
        resume, reconcile = c.agent.log[i - 1].resume, c.agent.log[i].reconcile
        assert reconcile == pb.Reconcile(
            next=6,
            named=[
                pb.Belief(seq=2, token=held.token, lock="held"),
                pb.Belief(seq=3, lock="waited"),
                pb.Belief(seq=4, lock="asked"),
            ],
        )
        assert (resume.seq, resume.ttl_nanos) == (5, TTL)
        assert resume.deadline_nanos
        c.agent.stranger_leaves("waited")
        c.world.settle()
        assert waited.valid()
        assert held.valid()
        assert asked.valid()


def test_request_made_while_reconciling():
    """It lies at or above Reconcile's next; the judge says so if it does not."""
    with story() as c:
        made = []

        def on_request(m):
            if m.HasField("reconcile"):
                c.agent.on_request = None
                made.append(c.core.ask("a"))

        c.agent.on_request = on_request
        for _ in range(2):
            c.agent.break_stream()
            c.world.run(1)
            assert c.agent.holder("a")
        assert made[0].valid()


def test_named_and_not_known():
    with story() as c:
        held = c.lock("a")
        c.agent.stranger_takes("b")
        waits = c.ask("b")
        for seq in (2, 3):  # as if the cluster had forgotten
            c.agent.leave(seq, pb.REASON_LOST)
            body, c.agent.seqs[seq] = c.agent.seqs[seq].body, Record("acquire")
            c.agent.seqs[seq].body, c.agent.seqs[seq].delivered = body, True
        c.agent.break_stream()
        c.world.run(1)
        with pytest.raises(raftlock.NotWaitingError):
            c.core.obtained(waits)
        want_lost(held)


def test_duplicates_change_nothing():
    with story() as c:
        lock = c.lock("a")
        v = lock._deadline
        held = c.agent.told(2)
        for _ in range(2):
            c.agent.say(answer=pb.Answer(seq=2, reason=OK, standing=held))
            c.agent.update(2)
            c.agent.say(reconciled=pb.Reconciled())
            c.agent.say(attached=pb.Attached(seq=1, reason=OK, deadline_nanos=v + 3600 * SECOND))
            c.agent.say()
            c.agent.say(answer=pb.Answer(seq=99, reason=OK))
            held.state, held.deadline_nanos = pb.Standing.STATE_WAITING, 0
        c.world.settle()
        assert lock.valid()
        assert lock._deadline == v
        assert not c.core.owed


@pytest.mark.parametrize(
    ("reason", "want"),
    [
        (pb.REASON_SUPERSEDED, raftlock.SupersededError),
        (pb.REASON_EXPIRED, raftlock.ExpiredError),
        (pb.REASON_SESSION_ENDED, raftlock.SessionEndedError),
        (OK, raftlock.SessionEndedError),
    ],
)
def test_ended(reason, want):
    with story() as c:
        lock = c.lock("a")
        c.agent.stranger_takes("b")
        waits = c.ask("b")
        c.agent.end(reason)
        c.agent.say(ended=pb.Ended(reason=reason))
        c.world.settle()
        for err in (c.core.err, waits._err):
            assert isinstance(err, raftlock.SessionEndedError)
            assert isinstance(err if err.__cause__ is None else err.__cause__, want)
        want_lost(lock)
        with pytest.raises(raftlock.SessionEndedError):
            c.core.ask("c")
        with pytest.raises(raftlock.SessionEndedError):
            c.core.start_ttl(TTL)


def test_session_ends_under_a_request():
    """An acquire that was sent may have been granted before its session ended."""
    with story() as c:
        c.agent.stranger_takes("b")
        waits = c.ask("b")
        c.agent.end(pb.REASON_EXPIRED)
        c.agent.say(ended=pb.Ended(reason=pb.REASON_EXPIRED))
        c.world.settle()
        assert waits._err.applied == "unknown"
        with pytest.raises(raftlock.SessionEndedError) as refused:
            c.core.ask("c")
        assert refused.value.applied == "no"


def test_session_gone_at_resume():
    with story() as c:
        lock = c.lock("a")
        c.agent.end(pb.REASON_EXPIRED)
        c.agent.break_stream()
        c.world.run(1)
        assert isinstance(c.core.err.__cause__, raftlock.ExpiredError)
        want_lost(lock)


def test_the_next_lock_after_an_end_opens_a_session():
    with story() as c:
        c.lock("a")
        first, old = c.core, c.agent
        old.end(pb.REASON_EXPIRED)
        old.say(ended=pb.Ended(reason=pb.REASON_EXPIRED))
        c.world.settle()
        c.world.agent = type(old)(c.world)
        c.world._stream = None
        assert c.lock("b").valid()
        assert c.core is not first


def test_resume_is_tried_until_the_cluster_answers():
    with story() as c:
        lock = c.lock("a")

        def attach(a):
            a.reason = pb.REASON_NO_QUORUM

        c.agent.attach = attach
        c.agent.break_stream()
        c.world.run(60)
        assert lock.valid()


def test_close():
    with story() as c:
        lock = c.lock("a")
        c.agent.stranger_takes("b")
        waits = c.ask("b")
        c.close()
        assert c.agent.leftovers() == []
        assert isinstance(waits._err, raftlock.SessionEndedError)
        want_lost(lock)
        with pytest.raises(raftlock.ClosedError):
            c.lock("c")
        c.close()


def test_close_over_a_broken_stream():
    with story() as c:
        c.lock("a")
        c.agent.away = True
        c.agent.break_stream()

        def back():
            c.agent.away = False

        c.world.after(3, back)
        c.close()
        assert c.agent.ended


def test_close_without_an_agent_is_bounded():
    with story() as c:
        lock = c.lock("a")
        c.agent.away = True
        c.agent.break_stream()
        start = c.world.now
        c.close()
        assert c.world.now - start == pytest.approx(5 * SECOND, abs=SECOND // 10)
        want_lost(lock)
        c.agent.end(OK)


@pytest.mark.parametrize("side", ["agent's", "ours"])
def test_stream_bound_ends_with_its_stream(side):
    with story() as c:
        c.close()
    c = FakeClient()

    def attach(a):
        a.stream_bound = True

    c.agent.attach = attach
    lock = c.lock("a")
    late = []
    c.world.on_close = lambda: late.append(lock.valid())
    if side == "ours":
        c.world._broken(c.core, "message too large")
    else:
        c.agent.break_stream()
    assert late == [False], "the stream was closed while the lock was still thought held"
    with pytest.raises(raftlock.LostError) as err:
        _ = lock.token
    assert isinstance(err.value.__cause__, raftlock.SessionEndedError)
    c.close()
    assert c.agent.sent() == ["open", "acquire"]


def test_stream_bound_session_closes():
    c = FakeClient()

    def attach(a):
        a.stream_bound = True

    c.agent.attach = attach
    c._session(c._ttl)
    c.world.settle()
    c.close()
    assert c.agent.sent() == ["open", "end"]
    assert c.agent.ended


def use_everything(c):
    """Use everything once. However streams break under it, its outcome is the same."""
    c.agent.stranger_takes("wanted")
    c.agent.stranger_takes("taken")
    a = c.lock("a")
    first = a._token
    with pytest.raises(raftlock.HeldError):
        c.try_lock("taken")
    c.world.after(2.5, lambda: c.agent.stranger_leaves("wanted"))
    wanted = c.lock("wanted")
    with pytest.raises(raftlock.WaitTimeout):
        c.lock("taken", timeout=0.1)
    wanted.renew(ttl=5, timeout=60)
    a.release(timeout=60)
    # The session has another TTL now, so this one is named for it.
    anew = c.lock("a", ttl=5)
    c.world.run(3)
    assert wanted.valid()
    assert anew.token > first
    assert (c.agent.lock("taken").holder, c.agent.lock("taken").queue) == (-1, [])
    c.close(timeout=60)
    assert c.agent.leftovers() == []
    assert c.agent.wrong == []


@pytest.mark.parametrize("kind", [{}, {"late": True}, {"response": True}])
def test_stream_broken_at_every_message(kind):
    at, hit = 1, True
    while hit:
        c = FakeClient()
        c.agent.cuts = [Cut(at, **kind)]
        use_everything(c)
        hit = (c.agent.replies if kind.get("response") else c.agent.requests) >= at
        at += 1
    assert at > 15


@pytest.mark.parametrize("mix", range(8))
def test_stream_broken_twice(mix):
    """The second falls on what mends the first."""
    for at in range(1, 24):
        for gap in range(1, 6):
            c = FakeClient()
            c.agent.cuts = [
                Cut(at, late=bool(mix & 1), response=bool(mix & 4)),
                Cut(at + gap, late=bool(mix & 2), response=bool(mix & 4)),
            ]
            use_everything(c)


def test_redial_pauses_are_bounded_by_beats():
    with story(ttl=0.9) as c:
        pauses = [c.core.down("test", 0.999) / SECOND for _ in range(10)]
        assert max(pauses) <= 0.1
        assert min(pauses) >= 0.01


def test_fake_says_gone():
    """The fake's own word for what is over is the API's."""
    assert GONE == pb.Standing.STATE_GONE
    assert holders_share(100) == 98
