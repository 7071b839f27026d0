"""Trace contexts of requests, where opentelemetry-api is installed (raftlock[otel]).

Without it there are no spans, and requests carry no trace.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Optional

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


def current_trace() -> Optional[pb.Trace]:
    """The trace context of the span that is current now; None: there is none."""
    if _propagator is None:
        return None
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    if "traceparent" not in carrier:
        return None
    return pb.Trace(traceparent=carrier["traceparent"], tracestate=carrier.get("tracestate", ""))


@contextlib.contextmanager
def acquire_span(name: str) -> Iterator[Optional[pb.Trace]]:
    """The span of an acquire, from the asking to the grant or the failure."""
    if _otel is None:
        yield None
        return
    tracer = _otel.get_tracer("raftlock")
    with tracer.start_as_current_span("raftlock.acquire", attributes={"raftlock.lock": name}):
        yield current_trace()
