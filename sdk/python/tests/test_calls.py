"""Calls: lock, try_lock, release, and what becomes of those that give up."""

import gc
import weakref

import pytest
from fake import OK, FakeClient, holders_share, pb, story, want_lost

import raftlock
from raftlock._acks import ABOVE_MAX, Acks
from raftlock._core import CALLS_MAX

SECOND = 1_000_000_000


def test_lock_and_release():
    with story() as c:
        with c.lock("a", priority=7, metadata={"k": "v"}) as held:
            assert held.token == 1
            assert held.valid()
            assert held.name == "a"
            asked = c.agent.log[-1].acquire
            assert (asked.priority, dict(asked.metadata)) == (7, {"k": "v"})
        assert c.agent.holder("a") == 0, "the block was left before it was applied"
        with pytest.raises(raftlock.ReleasedError):
            _ = held.token
        assert not held.lost.is_set()
        held.release()
        held.renew  # noqa: B018 - it is there, and is not called
        with pytest.raises(raftlock.ReleasedError):
            held.renew()


def test_try_lock():
    with story() as c:
        c.agent.stranger_takes("a")
        with pytest.raises(raftlock.HeldError) as err:
            c.try_lock("a")
        assert (err.value.applied, err.value.reason) == ("no", "HELD")
        c.agent.stranger_leaves("a")
        with c.try_lock("a") as held:
            assert held.valid()


def test_lock_waits_for_its_turn():
    with story() as c:
        c.agent.stranger_takes("a")
        c.world.after(60, lambda: c.agent.stranger_leaves("a"))
        start = c.world.now
        c.lock("a")
        assert c.world.now - start == 60 * SECOND


def test_threads_contend_like_strangers():
    with story() as c:
        first = c.lock("a")
        with pytest.raises(raftlock.HeldError):
            c.try_lock("a")
        second = c.ask("a")
        first.release()
        c.world.settle()
        assert second.valid()
        assert not first.valid()


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("", {}),
        ("x" * 513, {}),
        ("é" * 257, {}),
        ("\ud800", {}),
        ("a\nb", {}),
        ("a\x85b", {}),
        ("a", {"metadata": {"k": "x" * (4 << 10)}}),
        ("a", {"metadata": {"\ud800": ""}}),
        ("a", {"priority": 1 << 31}),
        ("a", {"ttl": 0.1}),
    ],
)
def test_bad_requests_are_refused_here(name, kwargs):
    with story() as c:
        before = c.agent.sent()
        for call in (c.lock, c.try_lock):
            with pytest.raises(raftlock.InvalidError):
                call(name, **kwargs)
        assert c.agent.sent() == before


def test_small_ttls_and_long_paths_are_refused_here():
    with pytest.raises(raftlock.InvalidError):
        raftlock.Client(ttl=0.1)
    with pytest.raises(raftlock.InvalidError):
        raftlock.Client("/" + "x" * 107)
    with story() as c, pytest.raises(raftlock.InvalidError):
        c.lock("a").renew(ttl=0.1)


@pytest.mark.parametrize(
    ("answer", "want", "applied", "undone"),
    [
        (pb.Answer(reason=pb.REASON_LIMIT, detail="waiters"), raftlock.LimitError, "no", False),
        (pb.Answer(reason=pb.REASON_NO_QUORUM, unknown=True), raftlock.NoQuorumError, "unknown", True),
        (pb.Answer(reason=OK), raftlock.UnnamedError, "no", True),
        (pb.Answer(reason=9999), raftlock.UnnamedError, "no", False),
    ],
)
def test_refused_acquire(answer, want, applied, undone):
    with story() as c:
        c.agent.refuse["acquire"] = answer
        with pytest.raises(want) as err:
            c.lock("a")
        assert err.value.applied == applied
        c.world.settle()
        assert ("cancel" in c.agent.sent()) == undone


def test_lock_timeout_ends_in_the_queue():
    with story() as c:
        c.agent.stranger_takes("a")
        start = c.world.now
        with pytest.raises(raftlock.WaitTimeout):
            c.lock("a", timeout=1)
        assert c.world.now - start == SECOND
        c.world.settle()
        assert c.agent.leftovers() == []


def test_interrupted_lock_is_undone():
    """What interrupts the call (Ctrl-C) comes out of it, and nothing stays."""
    for answered in (False, True):
        with story() as c:

            def interrupt(event, timeout, answered=answered, c=c):
                if answered:
                    c.world.settle()
                raise KeyboardInterrupt

            c.core.wait = interrupt
            with pytest.raises(KeyboardInterrupt):
                c.lock("a")
            c.core.wait = c.world.wait
            c.world.settle()
            assert c.agent.leftovers() == []


def test_cancel_is_kept_until_confirmed():
    with story() as c:
        c.agent.deaf = True
        with pytest.raises(raftlock.WaitTimeout) as err:
            c.lock("a", timeout=1)
        assert err.value.applied == "unknown"
        for _ in range(3):
            c.agent.break_stream()
            c.world.run(2)
        c.agent.deaf = False
        c.agent.break_stream()
        c.world.run(2)
        record = c.agent.seqs[2]
        assert record.standing.state == pb.Standing.STATE_GONE
        assert record.delivered
        assert c.agent.log[-1].ack_mark >= 2
        kinds = c.agent.sent()
        # Confirmed is confirmed: it is not said again.
        c.agent.break_stream()
        c.world.run(2)
        assert "cancel" not in c.agent.sent()[len(kinds) :]


@pytest.mark.parametrize("delay", [-2e-9, -1e-9, 0, 1e-9, 2e-9])
def test_cancel_races_with_grant(delay):
    with story() as c:
        c.agent.stranger_takes("a")
        c.world.after(1 + delay, lambda: c.agent.stranger_leaves("a"))
        try:
            held = c.lock("a", timeout=1)
        except raftlock.WaitTimeout:
            c.world.run(0.001)
            assert c.agent.leftovers() == []
        else:
            assert held.valid()
            assert c.agent.holder("a")


def test_grant_after_cancel_is_given_back():
    with story() as c:
        c.agent.deaf = True
        with pytest.raises(raftlock.WaitTimeout):
            c.lock("a", timeout=1)
        # The agent took the acquire after all, and lost the cancel.
        c.agent.deaf = False
        c.agent.acquire(c.agent.stream, c.agent.seqs[2].body.acquire)
        c.agent.break_stream()
        c.world.run(2)
        assert c.agent.leftovers() == []


def test_stray_grant_is_given_back():
    with story() as c:
        c.lock("a").release()
        c.agent.grant(c.agent.lock("a"), 2)
        c.agent.update(2)
        c.world.settle()
        assert c.agent.leftovers() == []


def test_release_is_bounded_and_goes_on():
    with story() as c:
        lock = c.lock("a")
        c.agent.deaf = True
        start = c.world.now
        with pytest.raises(raftlock.WaitTimeout) as err:
            lock.release()
        assert err.value.applied == "unknown"
        assert c.world.now - start == 5 * SECOND
        assert not lock.valid()
        c.agent.deaf = False
        c.agent.break_stream()
        lock.release()
        assert c.agent.holder("a") == 0


def test_leaving_a_block_is_bounded_and_goes_on(caplog):
    with story() as c:
        with c.lock("a"):
            c.agent.deaf = True
        assert "goes on" in caplog.text
        c.agent.deaf = False
        c.agent.break_stream()
        c.world.run(2)
        assert c.agent.holder("a") == 0


def test_leaving_a_block_says_lost():
    with story() as c:
        with pytest.raises(raftlock.LostError), c.lock("a"):
            c.world.jump(holders_share(10 * SECOND))
        with pytest.raises(ZeroDivisionError), c.lock("a"):  # noqa: PT012
            c.world.jump(holders_share(10 * SECOND))
            raise ZeroDivisionError  # the block's own is not hidden
        with c.lock("a") as held:
            held.release()


def test_release_refused_is_kept():
    with story() as c:
        lock = c.lock("a")
        c.agent.refuse["release"] = pb.Answer(reason=pb.REASON_NO_QUORUM, unknown=True)
        with pytest.raises(raftlock.NoQuorumError):
            lock.release()
        c.world.settle()
        assert c.agent.leftovers() == []


@pytest.mark.parametrize("reason", [pb.REASON_LOST, pb.REASON_REVOKED])
def test_release_of_what_was_taken_away(reason):
    with story() as c:
        lock = c.lock("a")
        c.agent.leave(2, reason)  # not told
        with pytest.raises(raftlock.LostError):
            lock.release()


def test_requests_are_bounded():
    with story() as c:
        c.agent.away = True
        c.agent.break_stream()
        c.world.run(1)
        asked = [c.core.ask("a") for _ in range(CALLS_MAX)]
        with pytest.raises(raftlock.QueueFullError):
            c.lock("a")
        for lock in asked:
            with pytest.raises(raftlock.WaitTimeout, match="nobody listens") as err:
                c.core.obtained(lock)
            assert err.value.applied == "no"
        assert not c.core.calls
        assert not c.core.owed


def test_requests_wait_for_the_stream():
    with story() as c:
        c.agent.away = True
        c.agent.break_stream()

        def back():
            c.agent.away = False

        c.world.after(3, back)
        assert c.lock("a").valid()


@pytest.mark.parametrize(
    ("told", "want"),
    [
        ([], raftlock.WaitTimeout),
        ([pb.REASON_NO_QUORUM], raftlock.NoQuorumError),
        ([pb.REASON_NO_LEADER], raftlock.NoLeaderError),
        ([pb.REASON_NO_QUORUM, pb.REASON_NO_LEADER], raftlock.NoLeaderError),
        ([pb.REASON_NO_QUORUM, OK], raftlock.WaitTimeout),
        ([9999], raftlock.WaitTimeout),
    ],
)
@pytest.mark.parametrize("call", ["lock", "release", "renew"])
def test_reach_is_named_when_patience_ends(told, want, call):
    with story() as c:
        held = c.lock("a")
        c.agent.deaf = True
        for reason in told:
            c.agent.say(reach=pb.Reach(reason=reason))
        with pytest.raises(TimeoutError) as err:
            {
                "lock": lambda: c.lock("b", timeout=1),
                "release": lambda: held.release(timeout=1),
                "renew": lambda: held.renew(ttl=60, timeout=1),
            }[call]()
        assert type(err.value) is want
        assert err.value.applied == "unknown"


def test_reach_while_opening():
    c = FakeClient()
    c.agent.shy = True
    c.world.after(1, lambda: c.agent.say(reach=pb.Reach(reason=pb.REASON_NO_QUORUM)))
    with pytest.raises(raftlock.NoQuorumError) as err:
        c.lock("a", timeout=60)
    # The session's opening may have been applied; the acquire was never sent.
    assert err.value.applied == "no"


def test_reach_is_of_this_stream_and_of_unanswered():
    with story() as c:
        c.agent.say(reach=pb.Reach(reason=pb.REASON_NO_QUORUM))
        c.agent.break_stream()
        c.world.run(1)
        c.agent.deaf = True
        with pytest.raises(raftlock.WaitTimeout):
            c.lock("a", timeout=1)
        c.agent.deaf = False
        c.agent.stranger_takes("b")
        c.world.after(0.001, lambda: c.agent.say(reach=pb.Reach(reason=pb.REASON_NO_QUORUM)))
        with pytest.raises(raftlock.WaitTimeout):
            c.lock("b", timeout=1)


def test_applied_no_means_never_sent():
    with story() as c:
        c.agent.away = True
        c.agent.break_stream()
        with pytest.raises(raftlock.WaitTimeout) as err:
            c.lock("a", timeout=1)
        assert err.value.applied == "no"
        c.agent.away = False
        c.world.run(2)
        c.agent.deaf = True
        with pytest.raises(raftlock.WaitTimeout) as err:
            c.lock("a", timeout=1)
        assert err.value.applied == "unknown"


def test_forked_child_has_no_part(monkeypatch):
    """On virtual time; test_fork.py forks."""
    with story() as c:
        held = c.lock("a")
        before = c.agent.sent()
        monkeypatch.setattr("os.getpid", lambda: held._pid + 1)
        for call in (lambda: held.token, held.renew, held.__enter__):
            with pytest.raises(raftlock.ForkedError):
                call()
        assert not held.valid()
        assert held.left() == 0
        assert held.deadline == 0
        assert held.lost.is_set()
        held.release()
        held.__exit__(None, None, None)
        assert c.agent.sent() == before
        monkeypatch.undo()
        assert held.valid()
        assert not held.lost.is_set()


def test_a_session_for_each_ttl():
    with story() as c:
        c.lock("a")
        first = c.core
        c.lock("b", ttl=10.0)
        assert c.core is first
        c.lock("c").renew(ttl=20)
        c.lock("d", ttl=20)
        assert c.core is first, "its TTL is that one now"
        assert len(c._sessions.drivers) == 1
        c.world.settle()
        for n in range(15):
            c._session((n + 1) * SECOND)
        with pytest.raises(raftlock.LimitError):
            c._session(99 * SECOND)
        c._sessions.drivers[1:] = []
        c.world.core = first


def test_acks():
    acks = Acks()
    for seq in (3, 1, 5, 3, 5):
        acks.add(seq)
    assert acks.named() == (1, [3, 5])
    acks.add(2)
    assert acks.named() == (3, [5])
    acks.add(4)
    assert acks.named() == (5, [])


def test_acks_name_at_most_their_bound():
    acks = Acks()
    for seq in range(2, 2 + ABOVE_MAX + 10):
        acks.add(seq)
    mark, above = acks.named()
    assert (mark, len(above)) == (0, ABOVE_MAX)
    acks.add(1)
    assert acks.named() == (1 + ABOVE_MAX + 10, [])


def test_loss_is_told_once():
    with story() as c:
        held = c.lock("a")
        c.agent.silent = True
        c.core.lost_log.clear()
        c.world.jump(holders_share(10 * SECOND))
        assert not held.valid()
        _, lost = c.core.overdue()
        assert lost == [held]
        assert c.core.overdue()[1] == []
        want_lost(held)


def test_a_released_handle_is_not_kept():
    """It keeps its client, whose sessions end with it; a collection may be long in coming."""
    with story() as c:
        gc.disable()
        try:
            held = c.lock("a")
            gone = weakref.ref(held)
            held.release()
            del held
            assert gone() is None
        finally:
            gc.enable()
