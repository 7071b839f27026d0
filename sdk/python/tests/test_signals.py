"""A signal handler that uses a client or handle in the middle of another call is refused, not stuck."""

import signal
import threading

import pytest
from conftest import script
from fake import story

from raftlock._mutex import Mutex, to_take

STORM = """
import faulthandler, signal, sys, time, raftlock
faulthandler.dump_traceback_later(40, exit=True)
client = raftlock.Client(sys.argv[1])
held = client.lock("storm", timeout=30)
handled = refused = 0
def handler(*_):
    global handled, refused
    handled += 1
    try:
        held.valid()
    except RuntimeError:
        refused += 1
    signal.setitimer(signal.ITIMER_REAL, 0.0003)
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.0003)
end = time.monotonic() + 30
while time.monotonic() < end and (handled < 500 or not refused):
    held.valid()
signal.setitimer(signal.ITIMER_REAL, 0)
assert held.valid()
held.release()
client.close()
print(handled >= 500, refused > 0)
"""


def test_a_mutex_is_not_waited_for_by_its_owner():
    mutex = Mutex()
    with to_take(mutex), pytest.raises(RuntimeError, match="signal handler"):
        to_take(mutex)
    other = threading.Thread(target=mutex.acquire)
    other.start()
    other.join()
    assert to_take(mutex) is mutex  # another's is waited for


@pytest.mark.parametrize("call", ["valid", "release", "lock", "close"])
def test_a_signal_handler_in_a_call_is_refused(call):
    with story() as c:
        held = c.lock("a")
        calls = {"valid": held.valid, "release": held.release, "lock": lambda: c.lock("b"), "close": c.close}
        mutex = c._sessions.mu if call in ("lock", "close") else c.core.mu
        refusals = []

        def handler(*_):
            with pytest.raises(RuntimeError, match="signal handler") as refused:
                calls[call]()
            refusals.append(refused)

        before = signal.signal(signal.SIGUSR1, handler)
        try:
            with mutex:
                signal.raise_signal(signal.SIGUSR1)
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert len(refusals) == 1
        assert held.valid()
        held.release()


def test_signals_that_ask_a_handle_stop_nothing(agent):
    process = script(STORM, agent.socket)
    assert process.communicate(timeout=60) == ("True True\n", "")
