"""Everything at once, and two rules.

A handle that says valid is the cluster's holder, by a deadline that the agent
told; and nothing leaks.
"""

import random

import pytest
from fake import Cut, FakeClient, Phase, pb

import raftlock
from raftlock._requests import State

SECOND = 1_000_000_000
SEEDS = [*range(20), random.SystemRandom().getrandbits(48)]


def harm(c, rng):
    kind = rng.randrange(13)
    agent, stream = c.agent, c.agent.stream
    if kind < 3 and stream is not None:
        stream.closed = True
    elif kind == 3:
        agent.away = not agent.away
    elif kind == 4:
        agent.silent = not agent.silent
    elif kind == 5:
        c.world.jump(rng.randrange(2 * SECOND))
    elif kind == 6:
        name = rng.choice("abc")
        agent.stranger_takes(name)
        c.world.after(rng.random() * 2, lambda: agent.stranger_leaves(name))
    elif kind == 7:
        agent.refuse["acquire"] = pb.Answer(reason=pb.REASON_NO_QUORUM, unknown=True)
    elif kind == 8:
        agent.refuse["release"] = pb.Answer(reason=pb.REASON_NO_LEADER, unknown=True)
    elif kind == 9:
        agent.cuts = [Cut(agent.requests + 1 + rng.randrange(4), late=rng.random() < 0.5)]
    elif kind == 10:
        agent.cuts = [Cut(agent.replies + 1 + rng.randrange(4), response=True)]


def judge(c, handles, lost):
    for lock in handles:
        if not lock.valid():
            if lock._state is State.OVER:
                lost.add(lock)
        else:
            assert lock not in lost, "it came back"
            assert c.agent.holder(lock.name) == lock._seq, "valid, and not the holder"
            assert c.world.now < c.agent.promised[lock._seq], "valid past what was told"
    assert c.agent.wrong == []


def use(c, rng, handles):
    act = rng.randrange(4)
    try:
        if act == 0 and len(handles) < 8:
            handles.append(c.core.ask(rng.choice("abc")))
        elif act == 1 and handles:
            lock = handles.pop(rng.randrange(len(handles)))
            c.core.obtained(lock)  # gives up what is not held
            c.core.start_release(lock)
        elif act == 2 and handles:
            lock = rng.choice(handles)
            if lock._state is State.OVER:
                handles.remove(lock)
        elif act == 3 and rng.random() < 0.2:
            c.core.start_ttl(SECOND + rng.randrange(3 * SECOND))
    except raftlock.SessionEndedError:
        raise
    except raftlock.RaftLockError:
        pass


@pytest.mark.parametrize("seed", SEEDS)
def test_chaos(seed):
    rng = random.Random(seed)
    c = FakeClient(ttl=2)
    c._session(c._ttl)
    handles, lost = [], set()
    for _ in range(300):
        c.world.jitter = rng.random()
        harm(c, rng)
        use(c, rng, handles)
        c.world.run(rng.random() * 0.2)
        judge(c, handles, lost)
    c.agent.away = c.agent.silent = False
    c.agent.refuse.clear()
    c.agent.cuts = []
    for lock in handles:
        try:
            c.core.obtained(lock)
            c.core.start_release(lock)
        except raftlock.RaftLockError:
            pass
    c.world.run(10)
    judge(c, handles, lost)
    assert c.agent.leftovers() == []
    core = c.core
    assert core.phase is Phase.READY
    assert (core.owed, core.calls, core.locks, core.acks.above) == ({}, {}, {}, [])
    c.close()
