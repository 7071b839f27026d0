"""A forked child has no part in its parent's locks."""

import os

import pytest
from conftest import script

# The child is ended by the interpreter's own way, with every finaliser run.
PARENT = """
import gc, os, sys, time, raftlock

client = raftlock.Client(sys.argv[1], ttl=1)
held = client.lock("forked", timeout=30)
token, core = held.token, held._core
pid = os.fork()
if pid == 0:
    assert not held.valid() and held.left() == 0 and held.lost.is_set() and held.deadline == 0
    for refused in (lambda: held.token, held.renew, held.__enter__,
                    lambda: client.lock("forked"), lambda: client.try_lock("other"),
                    lambda: client.get("forked"), lambda: raftlock.Client(sys.argv[1]).lock("other")):
        try:
            refused()
        except raftlock.ForkedError as err:
            assert err.applied == "no"
        else:
            raise AssertionError("not refused")
    held.release()
    held.__exit__(None, None, None)
    client.close()
    del held, client, core, refused
    gc.collect()
    print("child: did nothing", flush=True)
    sys.exit(0)
_, status = os.waitpid(pid, 0)
assert status == 0, status
# Beats go on, on the stream that was there, and the lease with them.
end = held.deadline + 2
while held.deadline < end:
    assert held.valid()
    time.sleep(0.01)
assert held.token == token
assert core.stream == 1, "the stream broke"
assert client.get("forked").holder.token == token
held.release()
client.close()
print("parent: held all the time", flush=True)
"""

UNUSED = """
import os, sys, raftlock
client = raftlock.Client(sys.argv[1])
pid = os.fork()
if pid == 0:
    with client.lock("unused", timeout=30) as held:
        print("child", held.valid(), flush=True)
    client.close()
    sys.exit(0)
_, status = os.waitpid(pid, 0)
assert status == 0, status
with client.lock("unused", timeout=30) as held:
    print("parent", held.valid(), flush=True)
"""

POOL = """
import multiprocessing, sys, raftlock

def work(n):
    client = raftlock.Client(sys.argv[1])
    with client.lock("pool", timeout=60) as held:
        return held.token

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(3) as pool:
        tokens = pool.map(work, range(6))
        print(len(set(tokens)), flush=True)
"""

FORK_UNDER_LOAD = """
import os, sys, threading, raftlock
client = raftlock.Client(sys.argv[1])
held = client.lock("load", timeout=30)
stop = threading.Event()
def work(n):
    while not stop.is_set():
        with client.lock(f"load/{n}", timeout=30):
            held.valid()
threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
for t in threads: t.start()
for _ in range(20):
    pid = os.fork()
    if pid == 0:
        assert not held.valid()
        held.release()
        held.__exit__(None, None, None)
        client.close()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
stop.set()
for t in threads: t.join()
assert held.valid() and held._core.stream == 1
print("held", flush=True)
"""


WARNED = """
import sys, warnings, raftlock
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    client = raftlock.Client(sys.argv[1])
    assert not said, "it has not connected"
    client.lock("warned", timeout=30).release()
    client.status()
    with raftlock.Client(sys.argv[1], ttl=5) as another:
        another.lock("warned", timeout=30).release()
    client.close()
said = [w for w in said if "GRPC_ENABLE_FORK_SUPPORT" in str(w.message)]
assert all(w.category is RuntimeWarning for w in said)
print(len(said))
"""


def run(text, agent):
    # Without a word gRPC's core has its own handlers of forks on, and they can hang.
    process = script(text, agent.socket, env={"GRPC_ENABLE_FORK_SUPPORT": "0", **os.environ})
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err
    # gRPC itself may log that it noticed the fork.
    assert "Traceback" not in err, err
    return out.splitlines()


def test_forked_child_does_nothing(agent):
    assert run(PARENT, agent) == ["child: did nothing", "parent: held all the time"]


def test_unused_client_works_in_the_child(agent):
    assert run(UNUSED, agent) == ["child True", "parent True"]


def test_workers_that_fork_first(agent):
    assert run(POOL, agent) == ["6"]


def test_fork_while_threads_are_busy(agent):
    """A child that inherits a locked mutex must not wait for it."""
    assert run(FORK_UNDER_LOAD, agent) == ["held"]


@pytest.mark.parametrize(("value", "warnings"), [("1", "1"), ("True", "1"), ("0", "0"), ("", "0")])
def test_fork_support_of_grpc_is_warned_of_once(agent, monkeypatch, value, warnings):
    monkeypatch.setenv("GRPC_ENABLE_FORK_SUPPORT", value)
    assert run(WARNED, agent) == [warnings]
