"""An application in Python that does what the test tells it.

Orders and answers are those of order_test.go, one line of JSON each; the process
ends, without a word to the agent, when its input does.
"""

import contextlib
import gc
import json
import os
import sys
import threading
import time

import raftlock

NANOS = 1_000_000_000


def clock():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Application:
    def __init__(self):
        self.client = None
        self.locks = {}
        self.tracer = self.recorded = None  # do_trace makes them
        self.working = {}  # spans of what is done under a lock
        self.out = threading.Lock()

    def obey(self, order):
        answer = {"id": order["id"], "began": clock()}
        try:
            getattr(self, "do_" + order["do"])(order, answer)
        except raftlock.RaftLockError as err:
            over = isinstance(err, TimeoutError)
            answer["failure"] = {
                "text": str(err), "reason": err.reason, "applied": err.applied, "over": over,
            }  # fmt: skip
        except Exception as err:
            answer["failure"] = {"text": repr(err), "reason": "", "applied": "", "over": False}
        answer.setdefault("ended", clock())
        with self.out:
            print(json.dumps(answer), flush=True)

    def do_open(self, order, answer):
        self.client = raftlock.Client(order["socket"], ttl=order["ttl"] / NANOS)
        self.client.status()
        answer["pid"] = os.getpid()

    def do_lock(self, order, answer):
        take = self.client.try_lock if order.get("try") else self.client.lock
        with self.within(order["lock"]):
            held = take(order["lock"], timeout=(order.get("patience") or 30 * NANOS) / NANOS)
        answer["ended"] = clock()
        self.locks[order["lock"]] = held
        answer["token"], answer["deadline"] = held.token, round(held.deadline * NANOS)

    def do_unlock(self, order, answer):
        with self.within(order["lock"], last=True):
            self.locks[order["lock"]].release()

    def do_trace(self, order, answer):
        """Record spans from now on, as any application with OpenTelemetry does."""
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        self.recorded = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.recorded))
        trace.set_tracer_provider(provider)
        self.tracer = provider.get_tracer("application")

    def do_spans(self, order, answer):
        answer["spans"] = [
            {
                "name": span.name,
                "trace": f"{span.context.trace_id:032x}",
                "span": f"{span.context.span_id:016x}",
                "parent": f"{span.parent.span_id:016x}" if span.parent else "",
                "began": span.start_time,
                "ended": span.end_time,
            }
            for span in self.recorded.get_finished_spans()
        ]

    @contextlib.contextmanager
    def within(self, lock, last=False):
        """Be in the span of what is done under a lock, from asking to releasing."""
        if self.tracer is None:
            yield
            return
        from opentelemetry import trace

        span = self.working.get(lock)
        if span is None:
            span = self.working[lock] = self.tracer.start_span("work")
        with trace.use_span(span, end_on_exit=last):
            yield

    def do_check(self, order, answer):
        held = self.locks[order["lock"]]
        answer["valid"], answer["deadline"] = held.valid(), round(held.deadline * NANOS)
        answer["token"] = held.token

    def do_fork(self, order, answer):
        """Do all that can be done to a handle in a child, and end that."""
        held = self.locks[order["lock"]]
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            try:
                assert not held.valid(), "valid"
                held.release()
                held.__exit__(None, None, None)
                self.client.close()
                self.locks.clear()
                self.client = None
                del held
                gc.collect()
            except BaseException as err:
                print(repr(err), file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)  # sdk/python's tests end it by the interpreter's own way too
        _, status = os.waitpid(child, 0)
        assert status == 0, f"the child ended with {status}"
        answer["pid"] = child


def main():
    application = Application()
    for line in sys.stdin:
        threading.Thread(target=application.obey, args=(json.loads(line),), daemon=True).start()
    os._exit(0)


main()
