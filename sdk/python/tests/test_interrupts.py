"""What is raised on a lock's way to or from its caller (Ctrl-C, say) leaves nothing held."""

import sys
from pathlib import Path

import pytest
from fake import story
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

import raftlock
from raftlock import _trace

SOURCES = str(Path(raftlock.__file__).parent)
# What the caller's thread runs; the agent's answers are taken in another one.
OURS = {f"{SOURCES}/{name}.py" for name in ("_client", "_core", "_ledger", "_lock", "_trace")}


class InterruptAt:
    """Raise KeyboardInterrupt at the nth step of the SDK that a block takes.

    A step is where the interpreter runs signal handlers: a function begins, or a call of C is over.
    """

    def __init__(self, core, n):
        self.core, self.left, self.wait = core, n, core.wait

    def step(self, frame, event, _):
        if frame.f_code.co_filename not in OURS or frame.f_code.co_name == "_abandon":
            return
        if event in ("call", "c_return"):
            self.left -= 1
            if self.left == 0:
                sys.setprofile(None)
                raise KeyboardInterrupt

    def waiting(self, event, timeout):
        sys.setprofile(None)
        try:
            return self.wait(event, timeout)
        finally:
            sys.setprofile(self.step if self.left > 0 else None)

    def __enter__(self):
        self.core.wait = self.waiting
        sys.setprofile(self.step)

    def __exit__(self, *_):
        sys.setprofile(None)
        self.core.wait = self.wait


def nothing_stays(c):
    c.world.run(1)
    assert c.agent.leftovers() == []
    assert c.core.locks == {}
    assert c.core.calls == {}
    assert c.core.owed == {}
    assert c.core.acks.above == []


@pytest.mark.parametrize("contended", [False, True])
def test_lock_interrupted_at_every_step(contended):
    for n in range(1, 1000):
        with story() as c:
            if contended:
                c.agent.stranger_takes("a")
            try:
                with InterruptAt(c.core, n):
                    c.lock("a", timeout=1)
            except KeyboardInterrupt:
                nothing_stays(c)
                if contended:
                    c.agent.stranger_leaves("a")
                c.lock("a").release()
                continue
            except raftlock.WaitTimeout:
                pass
            assert n > 25, "nothing was interrupted"
            return
    raise AssertionError("it did not come to its end")


def test_release_interrupted_at_every_step():
    """The release is under way, or the caller still has a handle that can be released."""
    for n in range(1, 1000):
        with story() as c:
            held = c.lock("a")
            try:
                with InterruptAt(c.core, n):
                    held.release()
            except KeyboardInterrupt:
                if held.valid():
                    assert n <= 3  # the call had hardly begun
                    held.release()
                nothing_stays(c)
                assert not held.valid()
                continue
            assert n > 10, "nothing was interrupted"
            return
    raise AssertionError("it did not come to its end")


class Broken(SpanProcessor):
    def __init__(self, at):
        self.at = at

    def on_start(self, span, parent_context=None):
        if self.at == "start":
            raise RuntimeError("the exporter is broken")

    def on_end(self, span):
        if self.at == "end":
            raise RuntimeError("the exporter is broken")


@pytest.mark.parametrize("at", ["start", "end"])
def test_a_broken_span_processor_keeps_no_lock(monkeypatch, at):
    broken = TracerProvider()
    broken.add_span_processor(Broken(at))
    with story() as c:
        held = c.lock("b")
        monkeypatch.setattr(_trace._otel, "get_tracer", broken.get_tracer)
        with pytest.raises(RuntimeError):
            c.lock("a")
        with pytest.raises(RuntimeError):
            held.release()
        nothing_stays(c)
