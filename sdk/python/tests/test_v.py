"""V: until when a hold may be thought held, and that it never comes back."""

import pytest
from fake import HELD, OK, TTL, holders_share, pb, story, want_lost

import raftlock

SECOND = 1_000_000_000
SHARE = holders_share(TTL)


def test_valid_until_v():
    with story() as c:
        c.agent.silent = True
        lock = c.lock("a")
        c.world.run(SHARE / SECOND - 1e-9)
        assert lock.valid()
        assert not lock.lost.is_set()
        c.world.run(1e-9)
        assert lock.lost.is_set()
        want_lost(lock)


def test_left_and_deadline_follow_v():
    with story() as c:
        c.agent.silent = True
        lock = c.lock("a")
        at = (c.world.now + SHARE) / SECOND
        c.world.run(1)
        assert lock.left() == pytest.approx(SHARE / SECOND - 1)
        assert lock.deadline == pytest.approx(at)
        c.world.jump(SHARE)
        assert lock.left() == 0
        assert lock.deadline == pytest.approx(at)


def test_lease_moves_v():
    with story() as c:
        lock = c.lock("a")
        c.world.run(100)
        assert lock.valid()
        assert c.world.now < lock._deadline <= c.world.now + SHARE


def test_v_moves_forward_only():
    with story() as c:
        c.agent.silent = True
        lock = c.lock("a")
        v = lock._deadline
        c.agent.lease(v - SECOND)
        c.world.settle()
        assert (c.core.v, lock._deadline) == (v, v)


@pytest.mark.parametrize("news", ["lease", "standing"])
def test_v_never_comes_back(news):
    """A pause, and the first thing heard after it would bring V back."""
    with story() as c:
        lock = c.lock("a")
        c.world.jump(SHARE)
        # The news was on its way and is taken before any timer runs.
        if news == "lease":
            c.agent.lease(c.world.now + SECOND)
        else:
            c.agent.v = c.world.now + SECOND
            c.agent.update(2)
        response = c.agent.stream.queue.pop()
        c.agent.delivered(response)
        c.core.take(response)
        want_lost(lock)
        c.world.run(TTL / SECOND)
        want_lost(lock)
        assert c.agent.holder("a") == 0, "kept in the cluster"
        assert c.lock("a").token == 2


@pytest.mark.parametrize("check", ["valid", "token", "release", "left", "exit", "renew"])
def test_every_check_looks_at_the_clock(check):
    with story() as c:
        lock = c.lock("a")
        c.world.jump(SHARE)  # no timer ran
        if check == "valid":
            assert not lock.valid()
        elif check == "left":
            assert lock.left() == 0
        else:
            with pytest.raises(raftlock.LostError):
                {
                    "token": lambda: lock.token,
                    "release": lock.release,
                    "exit": lambda: lock.__exit__(None, None, None),
                    "renew": lock.renew,
                }[check]()
        want_lost(lock)


def test_only_what_the_stream_spoke_of_moves():
    """Between Attached and Reconciled a hold may have been revoked: nothing moves it."""
    with story() as c:
        lock = c.lock("a")
        c.agent.silent = True
        v = lock._deadline
        c.world.run((v - c.world.now) / SECOND - 1)
        c.agent.deaf = True  # attaches, does not reconcile
        c.agent.break_stream()
        c.world.run(0.1)
        c.agent.lease(c.world.now + SHARE)
        c.world.settle()
        assert c.core.v > v
        assert lock._deadline == v
        assert lock.valid()
        c.world.run(1)
        want_lost(lock)


def test_revoked():
    with story() as c:
        revoked, other = c.lock("a"), c.lock("b")
        c.world.run(1)
        frozen = revoked._deadline
        c.agent.seqs[2].standing.revoked = True
        c.agent.update(2)
        c.world.settle()
        assert revoked.revoked.is_set()
        assert not other.revoked.is_set()
        assert revoked.valid()
        for _ in range(5):
            c.agent.break_stream()  # nor does a reconcile move it
            c.world.run(1)
        assert revoked._deadline == frozen
        c.world.run((frozen - c.world.now) / SECOND)
        want_lost(revoked)
        assert other.valid()


def test_grant_past_its_deadline():
    with story() as c:
        c.agent.silent = True
        c.agent.stranger_takes("a")
        c.world.after(10, lambda: c.agent.stranger_leaves("a"))
        with pytest.raises(raftlock.LostError):
            c.lock("a")
        c.world.settle()
        assert c.agent.holder("a") == 0


def test_smaller_ttl_counts_first():
    with story() as c:
        lock = c.lock("a")
        c.agent.silent = c.agent.deaf = True
        call, _ = c.core.start_ttl(SECOND)
        c.world.settle()
        want = c.world.now + holders_share(SECOND)
        assert (lock._deadline, c.core.v) == (want, want)
        # A lease of the larger TTL was on its way.
        c.agent.lease(c.world.now + SHARE)
        c.world.settle()
        assert lock._deadline == want
        # A later one is worth what it is worth under the smaller.
        c.world.run(0.1)
        c.agent.lease(c.world.now + SHARE)
        c.world.settle()
        assert lock._deadline == c.world.now + holders_share(SECOND)
        c.agent.silent = c.agent.deaf = False
        c.agent.break_stream()
        assert c.world.wait(call.done, 10)
        assert call.err is None
        assert c.core.ttl.current == SECOND
        c.world.run(60)
        assert lock.valid()


def test_set_ttl_of_unknown_outcome():
    with story() as c:
        lock = c.lock("a")
        c.agent.silent = True
        c.agent.refuse["ttl"] = pb.Answer(reason=pb.REASON_NO_QUORUM, unknown=True)
        with pytest.raises(raftlock.NoQuorumError) as err:
            lock.renew(ttl=1)
        assert err.value.applied == "unknown"
        want = c.world.now + holders_share(SECOND)
        c.agent.lease(c.world.now + SHARE)
        c.world.settle()
        assert lock._deadline == want, "the smaller may be in force"
        c.agent.silent = False
        lock.renew(ttl=10)


def test_larger_ttl_counts_later():
    with story() as c:
        lock = c.lock("a")
        v = c.core.v
        lock.renew(ttl=60)
        assert c.core.v == v
        c.world.run(60)
        assert lock.left() > 50


def test_set_ttl_takes_turns():
    with story() as c:
        lock = c.lock("a")
        c.agent.deaf = True
        call, busy = c.core.start_ttl(TTL)
        assert busy is None
        assert c.core.start_ttl(TTL) == (None, call)
        with pytest.raises(raftlock.WaitTimeout) as err:
            lock.renew(timeout=1)
        assert err.value.applied == "no", "it waited for the other's turn"
        c.agent.deaf = False
        c.agent.break_stream()
        lock.renew()


@pytest.mark.parametrize("off", [1, -1, -1800 * SECOND])
def test_clocks_that_cannot_be_compared(off):
    with story() as c:
        pass
    client = type(c)()

    def attach(a):
        a.clock_nanos += off

    client.agent.attach = attach
    with pytest.raises(raftlock.ClockError):
        client.lock("a")
    client.world.settle()
    assert client.agent.ended, "the session was left open"


def test_resume_finds_another_clock():
    with story() as c:
        lock = c.lock("a")

        def attach(a):
            a.clock_nanos += 1

        c.agent.attach = attach
        c.agent.break_stream()
        c.world.run(1)
        assert isinstance(c.core.err, raftlock.SessionEndedError)
        assert isinstance(c.core.err.__cause__, raftlock.ClockError)
        want_lost(lock)
        c.agent.end(OK)


def test_lease_of_another_clock_is_ignored():
    with story() as c:
        v = c.core.v
        c.agent.say(lease=pb.Lease(deadline_nanos=v + 3600 * SECOND, clock_nanos=c.world.now + 1))
        c.world.settle()
        assert c.core.v == v


def test_agent_says_lost():
    with story() as c:
        lock = c.lock("a")
        c.agent.leave(2, pb.REASON_LOST)
        c.agent.update(2)
        c.world.settle()
        want_lost(lock)
        assert "lost" not in c.agent.sent(), "given back though it is gone"


def test_lost_is_given_back_before_the_lock_is_taken_anew():
    with story() as c:
        lock = c.lock("a")
        c.world.jump(SHARE)
        # The call that notices it is the one that takes the lock anew.
        anew = c.lock("a")
        want_lost(lock)
        assert anew.token == 2
        assert c.agent.sent()[-2:] == ["lost", "acquire"]


def test_lost_is_given_back_over_streams():
    with story() as c:
        c.lock("a")
        c.agent.deaf = True
        c.world.jump(SHARE)
        c.world.run(10)
        for _ in range(2):
            c.agent.break_stream()
            c.world.run(2)
        assert not any(m.reconcile.named for m in c.agent.log), "still named"
        c.agent.deaf = False
        c.agent.break_stream()
        c.world.run(2)
        assert c.agent.holder("a") == 0
        assert not c.core.owed


def test_lost_while_reconciling():
    """Lost between the Reconcile that named it and its answer."""
    with story() as c:
        lock = c.lock("a")
        c.agent.silent = True

        def on_request(m):
            if m.HasField("reconcile"):
                c.agent.on_request = None
                c.world.jump(SHARE)

        c.agent.on_request = on_request
        c.agent.break_stream()
        c.world.run(1)
        want_lost(lock)
        assert c.agent.holder("a") == 0
        assert not c.core.owed


def test_another_token_is_another_hold():
    with story() as c:
        lock = c.lock("a")
        c.agent.seqs[2].standing.token += 1
        assert c.agent.seqs[2].standing.state == HELD
        c.agent.update(2)
        c.world.settle()
        want_lost(lock)
