"""Spans and trace contexts, with opentelemetry and without."""

import pytest
from conftest import script
from fake import pb, story
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import raftlock
from raftlock._trace import current_metadata

EXPORTER = InMemorySpanExporter()
PROVIDER = TracerProvider()
PROVIDER.add_span_processor(SimpleSpanProcessor(EXPORTER))


@pytest.fixture
def spans(monkeypatch):
    monkeypatch.setattr("raftlock._trace._otel.get_tracer", PROVIDER.get_tracer)
    EXPORTER.clear()
    return EXPORTER


def ids(span):
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-"


def by_name(spans):
    return {s.name: s for s in spans.get_finished_spans()}


def test_trace_goes_to_the_agent(spans):
    with story() as c:
        with PROVIDER.get_tracer("application").start_as_current_span("work") as work:
            c.lock("a").release()
        sent = [m.trace.traceparent for m in c.agent.log if m.HasField("trace")]
        made = by_name(spans)
        for name, traceparent in zip(("raftlock.acquire", "raftlock.release"), sent):
            span = made[name]
            assert span.parent.span_id == work.get_span_context().span_id
            assert traceparent.startswith(ids(span.context))
            assert span.attributes["raftlock.lock"] == "a"
            assert span.attributes["raftlock.session"] == c.agent.id.hex()
        assert made["raftlock.acquire"].attributes["raftlock.token"] == 1
        assert made["raftlock.acquire"].attributes["raftlock.outcome"] == "held"
        assert made["raftlock.release"].attributes["raftlock.outcome"] == "released"


def test_trace_is_repeated(spans):
    """The same on every stream: the judge compares the bodies of a sequence."""
    with story() as c:
        c.agent.deaf = True
        lock = c.core.ask("a", trace=pb.Trace(traceparent="00-1-2-01"))
        c.world.settle()
        c.agent.break_stream()
        c.world.run(1)
        c.agent.deaf = False
        c.agent.break_stream()
        c.world.run(1)
        assert lock.valid()
        sent = [m.trace.traceparent for m in c.agent.log if m.HasField("acquire")]
        assert sent == ["00-1-2-01"] * len(sent)
        assert len(sent) > 1


def test_trace_tells_why_not(spans):
    with story() as c:
        c.agent.stranger_takes("a")
        with pytest.raises(raftlock.HeldError):
            c.try_lock("a")
        refused = by_name(spans)["raftlock.acquire"]
        spans.clear()
        with pytest.raises(raftlock.WaitTimeout):
            c.lock("a", timeout=1)
        cancelled = by_name(spans)["raftlock.acquire"]
    for span, outcome, reason in ((refused, "refused", "HELD"), (cancelled, "cancelled", "CANCELLED")):
        assert span.status.status_code is trace.StatusCode.ERROR
        assert span.attributes["raftlock.outcome"] == outcome
        assert span.attributes["raftlock.reason"] == reason


def test_trace_that_nobody_records(monkeypatch):
    """One that is not sampled goes too, so that the agent begins none of its own."""
    never = TracerProvider(sampler=ALWAYS_OFF)
    monkeypatch.setattr("raftlock._trace._otel.get_tracer", never.get_tracer)
    with story() as c:
        c.lock("a").release()
        sent = [m.trace.traceparent for m in c.agent.log if m.HasField("trace")]
        assert len(sent) == 2
        assert all(len(t) == 55 and int(t[53:], 16) & 1 == 0 for t in sent)


def test_trace_of_unary_calls():
    assert current_metadata() == []
    with PROVIDER.get_tracer("application").start_as_current_span("work") as work:
        ((key, value),) = current_metadata()
        assert key == "traceparent"
        assert value.startswith(ids(work.get_span_context()))


def test_without_a_provider_no_trace_is_sent():
    with story() as c:
        c.lock("a").release()
        assert not any(m.HasField("trace") for m in c.agent.log)


def test_without_opentelemetry(agent):
    """As if it were not installed."""
    process = script(
        "import sys; sys.modules['opentelemetry'] = None\n"
        "import raftlock\n"
        "with raftlock.Client(sys.argv[1]).lock('untraced', timeout=30) as held: print(held.valid())",
        agent.socket,
    )
    assert process.communicate(timeout=60) == ("True\n", "")
