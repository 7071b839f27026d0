"""The exceptions: one class for each reason, all in the package's drawing."""

import pickle
import re

import pytest

import raftlock
from raftlock import _errors
from raftlock._proto import session_pb2 as pb

REASONS = [r for r in pb.Reason.values() if r not in (pb.REASON_UNSPECIFIED, pb.REASON_OK)]
CLASSES = [c for c in vars(raftlock).values() if isinstance(c, type) and issubclass(c, BaseException)]


def test_every_reason_has_its_own_error():
    classes = [type(_errors.refused(r)) for r in REASONS]
    assert len(set(classes)) == len(REASONS)
    assert raftlock.UnnamedError not in classes
    for reason, cls in zip(REASONS, classes):
        assert f"REASON_{cls.reason}" == pb.Reason.Name(reason)
        assert issubclass(cls, raftlock.RaftLockError)
    unnamed = _errors.refused(9999)
    assert (type(unnamed), unnamed.reason) == (raftlock.UnnamedError, "9999")


def test_error_tells_cause_and_effect():
    err = raftlock.NoQuorumError("lock 'a'", applied="unknown")
    assert str(err) == "no quorum: lock 'a' (applied: unknown)"
    assert str(raftlock.HeldError()) == "lock is held"
    lost = _errors.lost_for(pb.REASON_REVOKED)
    assert isinstance(lost.__cause__, raftlock.RevokedError)
    assert str(lost) == "lock lost: revoked"
    ended = _errors.ended_for(raftlock.ExpiredError())
    assert isinstance(ended.__cause__, raftlock.ExpiredError)
    assert _errors.ended_for(ended) is ended


def test_what_several_are_told_is_told_anew():
    first = _errors.lost_for(pb.REASON_EXPIRED)
    copy = _errors.again(first)
    assert copy is not first
    assert type(copy) is type(first)
    assert (copy.detail, copy.applied, copy.reason, copy.__cause__) == (
        first.detail,
        first.applied,
        first.reason,
        first.__cause__,
    )


@pytest.mark.parametrize("cls", CLASSES)
def test_errors_cross_processes(cls):
    """As multiprocessing sends them."""
    err = pickle.loads(pickle.dumps(cls("why", applied="unknown")))
    assert (type(err), err.detail, err.applied) == (cls, "why", "unknown")


def test_the_drawing_shows_every_class():
    drawn = {}
    stack = []
    for line in raftlock.__doc__.splitlines():
        found = re.match(r"^    ((?:\|   )*)(\+-- )?([A-Z]\w+(?:Error|Timeout))(\*?)  ", line)
        if not found:
            continue
        depth = len(found[1]) // 4 + (1 if found[2] else 0)
        stack[depth:] = [found[3]]
        drawn[found[3]] = (stack[depth - 1] if depth else None, bool(found[4]))
    assert set(drawn) == {c.__name__ for c in CLASSES}
    for cls in CLASSES:
        parent, timeout = drawn[cls.__name__]
        assert parent in (None, cls.__bases__[0].__name__)
        assert timeout == issubclass(cls, TimeoutError)
        assert cls.__doc__
