"""The client against a real agent."""

import re
import signal
import threading
import time

import pytest
from conftest import eventually, script

import raftlock
from raftlock import _reads
from raftlock._proto import read_pb2


def test_lock_and_release(client):
    with client.lock("a", metadata={"job": "1"}, timeout=30) as held:
        info = client.get("a")
        assert info.held
        assert info.holder.token == held.token
        assert info.metadata == {"job": "1"}
        assert info.ttl == 10
        assert 0 < held.left() < 10
        assert held.deadline <= time.clock_gettime(time.CLOCK_BOOTTIME) + 10
        with pytest.raises(raftlock.HeldError):
            client.try_lock("a", timeout=30)
    assert not client.get("a").held
    with client.lock("a", timeout=30) as again:
        assert again.token > held._token


def test_names_with_slashes_and_words_of_others(client):
    for name in ("a/b/c", "übung/日本", " "):
        with client.lock(name, timeout=30):
            assert client.get(name).held


def test_waiters_take_turns(client):
    order = []
    with client.lock("turns", timeout=30):
        threads = []
        for n in range(3):

            def work(n=n):
                with client.lock("turns", timeout=30) as held:
                    order.append((held.token, n))

            threads.append(threading.Thread(target=work))
            threads[-1].start()
            eventually(lambda n=n: client.get("turns").waiters == n + 1)
    for t in threads:
        t.join()
    assert [n for _, n in order] == [0, 1, 2]
    assert sorted(order) == order


def test_timeout_leaves_nothing_behind(client):
    with client.lock("busy", timeout=30), pytest.raises(raftlock.WaitTimeout):
        client.lock("busy", timeout=0.05)
    eventually(lambda: not client.get("busy").held and client.get("busy").waiters == 0)


def test_renew_changes_the_ttl(client):
    with client.lock("r", ttl=5, timeout=30) as held:
        held.renew(ttl=20)
        assert client.get("r").ttl == 20
        held.renew()
        eventually(lambda: held.left() > 15)
        held.renew(ttl=5)
        assert held.left() <= 5


def test_reads(client):
    with client.lock("list/a", timeout=30), client.lock("list/b", timeout=30):
        assert [i.name for i in client.locks(prefix="list/")] == ["list/a", "list/b"]
        assert [i.name for i in client.locks(pattern="list/?", contested=True)] == []
        assert [i.name for i in client.locks(prefix="list/", stale=True)] == ["list/a", "list/b"]
    status = client.status()
    assert status.reach == "OK"
    assert status.has_quorum
    assert status.nodes[0].role == "voter"
    with pytest.raises(raftlock.InvalidError):
        client.get("")


def test_role_that_nobody_tells():
    """While no leader tells, and of agents newer than this SDK."""
    nodes = [
        read_pb2.Node(name="a", role=read_pb2.Node.ROLE_FRESH),
        read_pb2.Node(name="b"),
        read_pb2.Node(name="c"),
    ]
    nodes[2].role = 99
    told = _reads.status(read_pb2.StatusResponse(nodes=nodes)).nodes
    assert [n.role for n in told] == ["fresh", "unknown", "unknown"]


def test_lists_go_through_all_pages(client):
    client._page_limit = 1
    locks = [client.lock(f"page/{n}", timeout=30) for n in range(3)]
    assert [i.name for i in client.locks(prefix="page/")] == ["page/0", "page/1", "page/2"]
    for lock in locks:
        lock.release()


def test_every_refusal_of_a_read_has_its_reason(client):
    """What the agent itself refuses comes as its reason's class."""
    from raftlock._proto import read_pb2

    with pytest.raises(raftlock.InvalidError) as err:
        client._read("get", lambda r: r.get, read_pb2.GetRequest(lock="x" * 600), time.monotonic() + 10)
    assert (err.value.reason, err.value.applied) == ("INVALID", "no")


def test_reads_without_an_agent(tmp_path):
    path = str(tmp_path / "none.sock")
    client = raftlock.Client(path)
    for read in (
        lambda: client.get("a", timeout=0.1),
        lambda: list(client.locks(timeout=0.1)),
        lambda: client.status(timeout=0.1),
    ):
        with pytest.raises(raftlock.WaitTimeout, match=re.escape(path)) as err:
            read()
        assert err.value.applied == "no"
    client.close()
    with pytest.raises(raftlock.ClosedError):
        client.get("a")


def test_nobody_on_the_socket(tmp_path):
    path = str(tmp_path / "none.sock")
    with raftlock.Client(path) as client:
        with pytest.raises(raftlock.WaitTimeout, match=re.escape(path)) as err:
            client.lock("a", timeout=0.1)
        assert err.value.applied == "no"


def test_sockets_are_searched(monkeypatch, tmp_path):
    from raftlock import _stream

    monkeypatch.delenv("RAFTLOCK_SOCKET", raising=False)
    there = tmp_path / "b.sock"
    monkeypatch.setattr(_stream, "SOCKETS", (str(tmp_path / "a.sock"), str(there)))
    assert _stream.socket_path(None).endswith("a.sock")
    there.touch()
    assert _stream.socket_path(None) == str(there)
    monkeypatch.setenv("RAFTLOCK_SOCKET", "/by/variable")
    assert _stream.socket_path(None) == "/by/variable"
    assert _stream.socket_path("/given") == "/given"


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
def test_holds_outlive_agents(own_agent, sig):
    """The agent restarts under a holder, a waiter and a reader, and nobody notices."""
    with raftlock.Client(own_agent.socket) as client:
        held = client.lock("a", ttl=30, timeout=30)
        token, core = held.token, held._core
        with raftlock.Client(own_agent.socket) as other:
            got = []
            waiter = threading.Thread(target=lambda: got.append(other.lock("a", timeout=60)))
            waiter.start()
            eventually(lambda: client.get("a").waiters == 1)
            own_agent.stop(sig)
            read = []
            reader = threading.Thread(target=lambda: read.append(client.get("a", timeout=60)))
            reader.start()
            own_agent.start()
            eventually(lambda: core.stream > 1 and core.phase.name == "READY")
            assert held.token == token
            reader.join()
            assert read[0].holder.token == token
            d = held.deadline
            eventually(lambda: held.deadline > d)
            held.release(timeout=30)
            waiter.join()
            assert got[0].token > token


HOLDER = """
import sys, raftlock
held = raftlock.Client(sys.argv[1]).lock("victim", timeout=30)
print(held.token, flush=True)
sys.stdin.read()
"""


def test_a_dead_holder_gives_way_at_once(agent, client):
    """Its TTL is 10 s; nothing is asserted of the time but that the lease was not waited for."""
    holder = script(HOLDER, agent.socket)
    first = int(holder.stdout.readline())
    holder.kill()
    with client.lock("victim", timeout=9) as held:
        assert held.token > first
    holder.communicate()


QUIET = """
import sys, threading, raftlock
client = raftlock.Client(sys.argv[1])
held = client.lock("quiet", timeout=30)
{end}
"""


@pytest.mark.parametrize(
    "end", ["", "sys.exit(3)", "1 / 0", "client.close(); client.close()", "held.release()"]
)
def test_threads_keep_no_process_alive(agent, end):
    """Without a close, too, the process ends, with its own status, and says nothing of its own."""
    process = script(QUIET.format(end=end), agent.socket)
    out, err = process.communicate(timeout=60)
    assert out == ""
    if "1 / 0" in end:
        assert "ZeroDivisionError" in err
        assert process.returncode == 1
    else:
        assert err == ""
        assert process.returncode == (3 if "exit" in end else 0)


# A shell's background job begins with SIGINT ignored.
WAITER = """
import signal, sys, raftlock
signal.signal(signal.SIGINT, signal.default_int_handler)
raftlock.Client(sys.argv[1]).lock("int")
"""


def test_interrupt_leaves_nothing_behind(agent, client):
    with client.lock("int", timeout=30):
        waiter = script(WAITER, agent.socket)
        eventually(lambda: client.get("int").waiters == 1)
        waiter.send_signal(signal.SIGINT)
        _, err = waiter.communicate(timeout=60)
        assert "KeyboardInterrupt" in err
        eventually(lambda: client.get("int").waiters == 0)


def test_forgotten_clients_end_their_sessions(agent, client):
    """A client that is garbage, with nothing held, leaves no session to beat for."""
    eventually(lambda: client.status().sessions == 0)  # those of the tests before have ended
    other = raftlock.Client(agent.socket, ttl=1)
    with other.lock("forgotten", timeout=30):
        pass
    assert client.status().sessions == 1
    del other
    eventually(lambda: client.status().sessions == 0)
