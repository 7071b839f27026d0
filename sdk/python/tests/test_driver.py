"""The threads of a session, over gRPC with an agent in this process."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from concurrent import futures

import grpc
import pytest
from conftest import eventually
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

import raftlock
from raftlock import _errors
from raftlock._proto import read_pb2
from raftlock._proto import session_pb2 as pb
from raftlock._ttls import holders_share

SERVICE = "raftlock.v1.RaftLock"


def clock():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Served:
    """An agent that grants everything, and breaks streams when it is told to."""

    def __init__(self, path):
        self.server = grpc.server(futures.ThreadPoolExecutor(16))
        self.server.add_generic_rpc_handlers((self.handlers(),))
        self.server.add_insecure_port(f"unix:{path}")
        self.mu = threading.Lock()
        self.heard = []  # (kind, its clock reading, ours at arrival)
        self.streams = []
        self.bound = False
        self.ttl = 0
        self.token = 0
        self.refusal = None
        self.pages = {}
        self.server.start()

    def handlers(self):
        def unary(do, request):
            return grpc.unary_unary_rpc_method_handler(
                do, request.FromString, lambda m: m.SerializeToString()
            )

        methods = {
            "Session": grpc.stream_stream_rpc_method_handler(
                self.session, pb.SessionRequest.FromString, pb.SessionResponse.SerializeToString
            ),
            "Get": unary(self.get, read_pb2.GetRequest),
            "List": unary(self.list, read_pb2.ListRequest),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def get(self, request, context):
        if self.refusal is not None:
            context.abort_with_status(self.refusal)
        return read_pb2.GetResponse(lock=read_pb2.LockInfo(name=request.lock))

    def list(self, request, context):
        return self.pages[request.after]

    def session(self, requests, context):
        out = queue.Queue()
        with self.mu:
            self.streams.append((out, context))
        reader = threading.Thread(target=self.read, args=(requests, out), daemon=True)
        reader.start()
        while True:
            response = out.get()
            if response is None:
                return
            yield response

    def read(self, requests, out):
        try:
            for m in requests:
                self.handle(m, out)
        except grpc.RpcError:
            pass
        except Exception as err:  # gRPC ends the iterator of a broken stream by one
            if type(err) is not Exception:
                raise
        out.put(None)

    def handle(self, m, out):
        kind = m.WhichOneof("request")
        now = clock()
        body = getattr(m, kind)
        with self.mu:
            self.heard.append((kind, getattr(body, "clock_nanos", 0), now))
        if kind in ("open", "resume"):
            if kind == "open":
                self.ttl = body.ttl_nanos
            v = body.clock_nanos + holders_share(self.ttl)
            out.put(
                pb.SessionResponse(
                    attached=pb.Attached(
                        seq=body.seq,
                        reason=pb.REASON_OK,
                        deadline_nanos=v,
                        ttl_nanos=self.ttl,
                        clock_nanos=now,
                        stream_bound=self.bound,
                    )
                )
            )
        elif kind == "beat":
            v = body.clock_nanos + holders_share(self.ttl)
            out.put(pb.SessionResponse(lease=pb.Lease(deadline_nanos=v, clock_nanos=now)))
        elif kind == "acquire":
            self.token += 1
            self.held = pb.Standing(
                seq=body.seq,
                lock=body.lock,
                state=pb.Standing.STATE_HELD,
                token=self.token,
                deadline_nanos=now + holders_share(self.ttl),
            )
            answer = pb.Answer(seq=body.seq, reason=pb.REASON_OK, standing=self.held)
            out.put(pb.SessionResponse(answer=answer))
        elif kind == "reconcile":
            out.put(pb.SessionResponse(reconciled=pb.Reconciled(standings=[self.held])))
        elif kind == "release":
            out.put(pb.SessionResponse(answer=pb.Answer(seq=body.seq, reason=pb.REASON_OK)))
        elif kind == "end":
            out.put(pb.SessionResponse(ended=pb.Ended(reason=pb.REASON_SESSION_ENDED)))

    def kinds(self):
        with self.mu:
            return [kind for kind, _, _ in self.heard if kind != "beat"]

    def beats(self):
        with self.mu:
            return [(sent, arrived) for kind, sent, arrived in self.heard if kind == "beat"]

    def break_stream(self):
        with self.mu:
            self.streams[-1][0].put(None)


@pytest.fixture
def served(tmp_path):
    it = Served(tmp_path / "agent.sock")
    it.path = str(tmp_path / "agent.sock")
    yield it
    for out, _ in it.streams:
        out.put(None)
    it.server.stop(None).wait()


def test_a_session_over_grpc(served):
    with raftlock.Client(served.path, ttl=5) as client, client.lock("a", timeout=30) as held:
        assert held.token == 1
    assert served.kinds() == ["open", "acquire", "release", "end"]


def test_beats_are_sent_by_the_clock(served):
    """Each tells when it was sent; how late that is on a busy host is not judged."""
    with raftlock.Client(served.path, ttl=0.9) as client, client.lock("a", timeout=30):
        eventually(lambda: len(served.beats()) >= 5)
        beats = served.beats()
        for (before, _), (sent, arrived) in itertools.pairwise(beats):
            assert before + 99_000_000 <= sent <= arrived


def test_a_broken_stream_is_resumed(served):
    with raftlock.Client(served.path, ttl=5) as client, client.lock("a", timeout=30) as held:
        for n in range(3):
            served.break_stream()
            eventually(lambda n=n: served.kinds().count("reconcile") == n + 1)
        d = held.deadline
        eventually(lambda: held.deadline > d)
        assert held.token == 1
    assert served.kinds()[:2] == ["open", "acquire"]


def test_stream_bound_is_lost_before_the_stream_is_closed(served, monkeypatch):
    from raftlock._stream import SocketStream

    served.bound = True
    seen = []
    close = SocketStream.close
    monkeypatch.setattr(SocketStream, "close", lambda st: (seen.append(held.valid()), close(st)))
    with raftlock.Client(served.path, ttl=5) as client:
        held = client.lock("a", timeout=30)
        served.break_stream()
        assert held.lost.wait(30)
        eventually(lambda: seen)
        assert not any(seen)
        with pytest.raises(raftlock.LostError):
            held.release()


def test_the_event_follows_the_loss(served):
    """Nobody looks, nothing is heard any more, and the event is set all the same."""
    with raftlock.Client(served.path, ttl=0.5) as client:
        held = client.lock("a", timeout=30)
        served.server.stop(None).wait()
        for out, _ in served.streams:
            out.put(None)
        assert held.lost.wait(30)
        assert not held.valid()


def refusal(reason, applied, domain="raftlock"):
    info = error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata={"applied": applied})
    detail = any_pb2.Any()
    detail.Pack(info)
    rich = status_pb2.Status(code=grpc.StatusCode.ABORTED.value[0], message="because", details=[detail])

    class Status(grpc.Status):
        code = grpc.StatusCode.ABORTED
        details = "because"
        trailing_metadata = (("grpc-status-details-bin", rich.SerializeToString()),)

    return Status()


def test_every_reason_comes_through_status(served):
    client = raftlock.Client(served.path)
    for reason, cls in _errors.BY_REASON.items():
        served.refusal = refusal(reason, "no")
        with pytest.raises(cls, match="because") as err:
            client.get("a", timeout=30)
        assert (err.value.applied, err.value.reason) == ("no", reason)


@pytest.mark.parametrize(
    ("reason", "applied", "domain", "want", "told"),
    [
        ("NO_QUORUM", "unknown", "raftlock", raftlock.NoQuorumError, "unknown"),
        ("OF_THE_FUTURE", "no", "raftlock", raftlock.UnnamedError, "no"),
        ("DENIED", "no", "another", raftlock.UnnamedError, "unknown"),
    ],
)
def test_read_refused(served, reason, applied, domain, want, told):
    served.refusal = refusal(reason, applied, domain)
    with pytest.raises(want) as err:
        raftlock.Client(served.path).get("a", timeout=30)
    assert type(err.value) is want
    assert err.value.applied == told


def test_pages_that_lead_back_are_an_error(served):
    served.pages = {
        "": read_pb2.ListResponse(locks=[read_pb2.LockInfo(name="a")], next="a"),
        "a": read_pb2.ListResponse(next="a"),
    }
    with pytest.raises(raftlock.RaftLockError, match="leads back"):
        list(raftlock.Client(served.path).locks())
