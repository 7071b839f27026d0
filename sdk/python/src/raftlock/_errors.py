"""The exceptions of every call, one class for each reason an agent can give.

An error says by `applied` whether the request may have had its effect. Which
class stands for which reason is told by one table at the end, which a test
compares with the API's list.
"""

from __future__ import annotations

from raftlock._proto import session_pb2 as pb


class RaftLockError(Exception):
    """What every failed call raises.

    `reason` is the API's name of the cause ("HELD"), or "" where the SDK itself
    refused. `applied` is "no" (it had no effect, and will have none) or
    "unknown" (it may have had, or may still have: an acquire is being undone, a
    release is still being repeated).
    """

    reason: str = ""
    text: str = "failed"

    def __init__(self, detail: str = "", *, applied: str = "no", reason: str | None = None) -> None:
        self.detail = detail
        self.applied = applied
        if reason is not None:
            self.reason = reason
        super().__init__(detail)

    def __reduce__(self) -> tuple[object, ...]:
        # Keywords are lost otherwise on the way to another process.
        return _remade, (type(self), self.detail, self.applied, self.reason)

    def __str__(self) -> str:
        said = self.text + (f": {self.detail}" if self.detail else "")
        return said + (" (applied: unknown)" if self.applied == "unknown" else "")


def _remade(cls: type[RaftLockError], detail: str, applied: str, reason: str) -> RaftLockError:
    return cls(detail, applied=applied, reason=reason)


class HeldError(RaftLockError):
    """try_lock found the lock held by somebody. Safe to repeat."""

    reason, text = "HELD", "lock is held"


class NotHeldError(RaftLockError):
    """The named hold is not held (any more)."""

    reason, text = "NOT_HELD", "not held"


class NotOwnerError(RaftLockError):
    """Somebody else holds it."""

    reason, text = "NOT_OWNER", "not the owner"


class StaleTokenError(RaftLockError):
    """A newer token of this lock, or of this resource, is in force."""

    reason, text = "STALE_TOKEN", "stale token"


class LostError(RaftLockError):
    """This handle no longer holds the lock, and never will again.

    Stop the work that it protected; to go on, take the lock anew.
    """

    reason, text = "LOST", "lock lost"


class NotFoundError(RaftLockError):
    """No such thing."""

    reason, text = "NOT_FOUND", "not found"


class InvalidError(RaftLockError, ValueError):
    """The request is out of bounds; repeating it is useless."""

    reason, text = "INVALID", "invalid request"


class QueueFullError(RaftLockError):
    """Too much is under way, here or in the cluster. Repeat it later."""

    reason, text = "QUEUE_FULL", "queue full"


class NotWaitingError(RaftLockError):
    """The cluster does not know this wait any more."""

    reason, text = "NOT_WAITING", "not waiting"


class NoLeaderError(RaftLockError, TimeoutError):
    """Time ran out, and the agent had found no leader."""

    reason, text = "NO_LEADER", "no leader"


class NoQuorumError(RaftLockError, TimeoutError):
    """Time ran out, and too few voters are there to decide."""

    reason, text = "NO_QUORUM", "no quorum"


class RateLimitedError(RaftLockError):
    """Slow down. Nothing was done."""

    reason, text = "RATE_LIMITED", "rate limited"


class DeniedError(RaftLockError):
    """A wrong secret, or a process that may not, forbids it."""

    reason, text = "DENIED", "denied"


class LimitError(RaftLockError):
    """A bound of the cluster (waiters, holds, sessions) is reached."""

    reason, text = "LIMIT", "limit reached"


class SupersededError(RaftLockError):
    """Somebody else resumed this session; it is over for us."""

    reason, text = "SUPERSEDED", "superseded"


class CancelledError(RaftLockError):
    """The request was given up before its answer."""

    reason, text = "CANCELLED", "cancelled"


class WaitTimeout(CancelledError, TimeoutError):
    """The call's timeout passed first; what it had asked for is being undone."""

    text = "timed out"


class ReleasedError(RaftLockError):
    """The handle was released before."""

    reason, text = "RELEASED", "released"


class RevokedError(RaftLockError):
    """An administrator takes the hold away."""

    reason, text = "REVOKED", "revoked"


class SessionEndedError(RaftLockError):
    """The session is over, and everything it held is lost."""

    reason, text = "SESSION_ENDED", "session ended"


class ExpiredError(RaftLockError):
    """The session's lease ran out."""

    reason, text = "EXPIRED", "expired"


class UsedUpError(RaftLockError):
    """The request's sequence was used before."""

    reason, text = "USED_UP", "sequence used up"


class ExistsError(RaftLockError):
    """The session was opened before, by a request of another stream."""

    reason, text = "EXISTS", "session exists"


class ForkedError(RaftLockError):
    """This process is a fork of the one that took the lock. Nothing was done."""

    text = "belongs to the parent process"


class ClockError(RaftLockError):
    """Process and agent read different clocks (a time namespace, say)."""

    text = "clocks of process and agent cannot be compared"


class ClosedError(RaftLockError):
    """The client was closed."""

    text = "client is closed"


class UnnamedError(RaftLockError):
    """The agent gave a reason that this SDK has no class for, or none at all."""

    text = "reason unknown to this version"


_ALL: tuple[type[RaftLockError], ...] = (
    HeldError, NotHeldError, NotOwnerError, StaleTokenError, LostError, NotFoundError, InvalidError,
    QueueFullError, NotWaitingError, NoLeaderError, NoQuorumError, RateLimitedError, DeniedError,
    LimitError, SupersededError, CancelledError, ReleasedError, RevokedError, SessionEndedError,
    ExpiredError, UsedUpError, ExistsError,
)  # fmt: skip

BY_REASON: dict[str, type[RaftLockError]] = {c.reason: c for c in _ALL}


def reason_name(reason: int) -> str:
    """The reason's name without its prefix, or its number."""
    try:
        return pb.Reason.Name(reason)[len("REASON_") :]
    except ValueError:
        return str(reason)


def refused(reason: int, detail: str = "", *, applied: str = "no") -> RaftLockError:
    """Make the error of a reason."""
    return named(reason_name(reason), detail, applied=applied)


def named(name: str, detail: str = "", *, applied: str = "no") -> RaftLockError:
    """Make the error of a reason's name."""
    cls = BY_REASON.get(name)
    if cls is None:
        return UnnamedError(detail, applied=applied, reason=name)
    return cls(detail, applied=applied)


def lost_for(reason: int, detail: str = "") -> LostError:
    """Make a LostError whose cause says why."""
    err = LostError(detail)
    if reason not in (pb.REASON_LOST, pb.REASON_UNSPECIFIED):
        err.__cause__ = refused(reason)
        if not detail:
            err.detail = err.__cause__.text
    return err


def ended_for(cause: BaseException) -> SessionEndedError:
    """Make a SessionEndedError whose cause says why."""
    if isinstance(cause, SessionEndedError):
        return cause
    err = SessionEndedError(str(cause))
    err.__cause__ = cause
    return err


def given_up(reach: int, applied: str, detail: str) -> RaftLockError:
    """The error of a call whose timeout passed before its answer.

    Where the agent said that it reaches nobody who could answer, that is the
    reason.
    """
    if reach == pb.REASON_NO_LEADER:
        return NoLeaderError(detail, applied=applied)
    if reach == pb.REASON_NO_QUORUM:
        return NoQuorumError(detail, applied=applied)
    return WaitTimeout(detail, applied=applied)


def doubtful(err: BaseException) -> BaseException:
    """The error of a request that was on its way: it may have had its effect."""
    copy = again(err)
    if isinstance(copy, RaftLockError):
        copy.applied = "unknown"
    return copy


def again(err: BaseException) -> BaseException:
    """Copy an error that several callers are told: a raised one gathers tracebacks."""
    if not isinstance(err, RaftLockError):
        return err
    copy = type(err)(err.detail, applied=err.applied, reason=err.reason)
    copy.__cause__ = err.__cause__
    return copy
