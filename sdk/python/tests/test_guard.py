"""The guard: it remembers the highest token of a resource and refuses lower ones."""

import sqlite3
import threading

import pytest
from conftest import script

import raftlock


@pytest.fixture(params=["memory", "file"])
def guard(request, tmp_path):
    it = raftlock.Guard() if request.param == "memory" else raftlock.Guard(str(tmp_path / "tokens.db"))
    yield it
    it.close()


def test_lower_tokens_are_refused(guard):
    guard.check("a", 5)
    guard.check("a", 5)
    guard.check("b", 1)
    with pytest.raises(raftlock.StaleTokenError):
        guard.check("a", 4)
    guard.check("a", 6)
    with pytest.raises(raftlock.StaleTokenError):
        guard.check("a", 5)
    assert [guard.highest(r) for r in ("a", "b", "c")] == [6, 1, 0]


@pytest.mark.parametrize("token", [0, -1, 1 << 63])
def test_what_is_no_token_is_refused(guard, token):
    with pytest.raises(raftlock.InvalidError):
        guard.check("a", token)


def test_the_file_remembers(tmp_path):
    path = str(tmp_path / "tokens.db")
    process = script(
        "import os, raftlock, sys; raftlock.Guard(sys.argv[1]).check('a', 7); os.kill(os.getpid(), 9)", path
    )
    process.communicate(timeout=30)
    guard = raftlock.Guard(path)
    with pytest.raises(raftlock.StaleTokenError):
        guard.check("a", 6)
    guard.close()
    guard.close()


def test_while_one_writes_nobody_else_comes_in():
    guard = raftlock.Guard()
    written = []
    inside, go = threading.Event(), threading.Event()

    def old():
        with guard.writing("a", 1):
            inside.set()
            go.wait(30)
            written.append(1)

    def new():
        with guard.writing("a", 2):
            written.append(2)

    threads = [threading.Thread(target=old), threading.Thread(target=new)]
    threads[0].start()
    assert inside.wait(30)
    threads[1].start()
    with guard.writing("other", 1):  # another resource does not wait
        pass
    assert written == []
    go.set()
    for t in threads:
        t.join()
    assert written == [1, 2]
    with pytest.raises(raftlock.StaleTokenError), guard.writing("a", 1):
        written.append(1)
    assert written == [1, 2]
    assert guard._state.writing == {}
    guard.close()


def test_check_and_write_are_one_step(tmp_path):
    path = str(tmp_path / "app.db")
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE reports (day TEXT, text TEXT)")
    db.commit()
    with db:
        raftlock.Guard.check_within(db, "reports", 2)
        db.execute("INSERT INTO reports VALUES ('mon', 'new')")
    with pytest.raises(raftlock.StaleTokenError), db:  # noqa: PT012
        raftlock.Guard.check_within(db, "reports", 1)
        db.execute("INSERT INTO reports VALUES ('mon', 'late')")
    # What is rolled back was not seen.
    with pytest.raises(ZeroDivisionError), db:  # noqa: PT012
        raftlock.Guard.check_within(db, "reports", 9)
        raise ZeroDivisionError
    with db:
        raftlock.Guard.check_within(db, "reports", 3)
    assert db.execute("SELECT text FROM reports").fetchall() == [("new",)]
    db.close()


FORK = """
import gc, os, signal, sys, threading, raftlock

guard, memory = raftlock.Guard(sys.argv[1]), raftlock.Guard()
memory.check("r", 5)
inside, go, stop = threading.Event(), threading.Event(), threading.Event()

def write():
    with guard.writing("r", 5):
        inside.set()
        go.wait()

def check():
    while not stop.is_set():
        guard.check("other", 1)

def child():
    signal.alarm(30)
    with guard.writing("r", 6):
        pass
    guard.check("other", 1)
    assert guard.highest("r") >= 6
    for refused in (lambda: memory.check("r", 6), lambda: memory.highest("r")):
        try:
            refused()
        except raftlock.ForkedError:
            continue
        raise AssertionError("not refused")
    memory.close()
    gc.collect()

threads = [threading.Thread(target=write)] + [threading.Thread(target=check) for _ in range(2)]
for t in threads:
    t.start()
inside.wait()
statuses = []
with guard.writing("mine", 1):
    for _ in range(10):
        pid = os.fork()
        if pid == 0:
            break
        statuses.append(os.waitpid(pid, 0)[1])
if pid == 0:
    child()
    os._exit(0)
go.set()
stop.set()
for t in threads:
    t.join()
guard.check("r", 6)
with guard.writing("mine", 2), guard.writing("r", 7):
    pass
print(statuses.count(0), memory.highest("r"), guard.highest("r"))
"""


def test_a_forked_child_has_a_guard_of_its_own(tmp_path):
    """Forked while other threads write and check."""
    process = script(FORK, str(tmp_path / "tokens.db"))
    assert process.communicate(timeout=60) == ("10 5 7\n", "")
