"""Spans and trace contexts, where opentelemetry-api is installed (raftlock[otel]).

Without it there are no spans and requests carry no trace. Names and attributes
are those of every SDK and of the agent.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from raftlock._errors import RaftLockError
from raftlock._proto import session_pb2 as pb

_otel: Any = None
_propagator: Any = None
try:
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:
    pass
else:
    _otel, _propagator = trace, TraceContextTextMapPropagator()

ACQUIRE = "raftlock.acquire"  # from lock or try_lock to its return
RELEASE = "raftlock.release"  # from release to its return


class Span:
    """A span of a request, recorded or not."""

    def __init__(self, span: Any, trace: pb.Trace | None) -> None:
        self._span = span
        self.trace = trace  # what goes with the request; None: outside of any trace

    def says(self, **attributes: str | int | bool) -> None:
        """Set attributes; an underscore at a name's end is left out."""
        if self._span is not None:
            for key, value in attributes.items():
                self._span.set_attribute("raftlock." + key.rstrip("_"), value)

    def failed(self, err: RaftLockError) -> None:
        """Say how a call did not do what was asked."""
        if self._span is None:
            return
        outcome = "unknown" if err.applied == "unknown" else "refused"
        if isinstance(err, TimeoutError):
            outcome = "cancelled"
        self.says(outcome=outcome, reason=err.reason)
        self._span.set_status(_otel.Status(_otel.StatusCode.ERROR, str(err)))


def _carrier() -> dict[str, str]:
    carrier: dict[str, str] = {}
    if _propagator is not None:
        _propagator.inject(carrier)
    return carrier


def _current() -> pb.Trace | None:
    """The trace context of the current span; one that is not sampled counts too."""
    carrier = _carrier()
    if "traceparent" not in carrier:
        return None
    return pb.Trace(traceparent=carrier["traceparent"], tracestate=carrier.get("tracestate", ""))


def current_metadata() -> list[tuple[str, str]]:
    """The same for a unary call."""
    return [(key, value) for key, value in _carrier().items() if value]


@contextlib.contextmanager
def request_span(name: str) -> Iterator[Span]:
    """A span that ends with its block and says how that came out."""
    if _otel is None:
        yield Span(None, None)
        return
    tracer = _otel.get_tracer("raftlock")
    with tracer.start_as_current_span(
        name, kind=_otel.SpanKind.CLIENT, record_exception=False, set_status_on_exception=False
    ) as recorded:
        span = Span(recorded, _current())
        try:
            yield span
        except RaftLockError as err:
            span.failed(err)
            raise
