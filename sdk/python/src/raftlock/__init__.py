"""The Python client of a RaftLock agent: locks with a fencing token for every grant.

    import raftlock

    client = raftlock.Client()
    with client.lock("nightly-report", timeout=30) as held:
        store.write(report, token=held.token)  # the store refuses lower tokens

What it promises: a handle that says it is valid was held at that instant. By this
host's clock the handle's deadline V passes before anybody else is granted the
lock, and valid(), token and release() compare the clock with V when they are
called. A handle that was lost stays lost. A request is applied at most once,
however often streams break. A call that gives up leaves nothing behind.

What it does not promise: work that was already on its way to another system when
V passed is not called back; only the token, checked by that system (Guard is one
way), protects it. The event `lost` follows a loss as fast as the scheduler lets
it; the checks do not lag. A stopped process learns nothing until it runs again.

Threads: each session owns two daemon threads, and gRPC's own that send; a client
has a session for each TTL it was asked for. close() ends them.

Fork: handles are inert in a forked child: not valid, and releasing, leaving their
block or collecting them does nothing. A client that the parent had not used yet
can be used in the child.

Signals: a handler should raise or set a flag; a call that it makes from the middle
of another one is refused by a RuntimeError (see Client.lock).

What can be raised, all of it RaftLockErrors (those marked * are builtin
TimeoutErrors too):

    RaftLockError             reason, applied ("no" or "unknown"), detail
    +-- HeldError             try_lock found it held
    +-- LostError             the handle no longer holds the lock, for ever
    +-- ReleasedError         the handle was released before
    +-- RevokedError          an administrator takes it away
    +-- NotHeldError          the named hold is not held
    +-- NotOwnerError         somebody else holds it
    +-- StaleTokenError       a newer token is in force
    +-- NotFoundError         no such thing
    +-- InvalidError          out of bounds (a builtin ValueError too)
    +-- QueueFullError        too much is under way
    +-- RateLimitedError      slow down
    +-- LimitError            a bound of the cluster, or of the client
    +-- DeniedError           a wrong secret, or a process that may not, forbids it
    +-- NoLeaderError*        time ran out, and there was no leader
    +-- NoQuorumError*        time ran out, and there was no majority
    +-- CancelledError        given up before its answer
    |   +-- WaitTimeout*      the call's timeout passed
    +-- NotWaitingError       the cluster does not know the wait any more
    +-- SessionEndedError     the session is over, and all it held is lost
    +-- SupersededError       somebody else resumed the session
    +-- ExpiredError          the session's lease ran out
    +-- UsedUpError           the request's sequence was used before
    +-- ExistsError           the session was opened before
    +-- ForkedError           the process is a fork of the one that holds
    +-- ClockError            process and agent read different clocks
    +-- ClosedError           the client was closed
    +-- UnnamedError          a reason that this version has no class for
"""

from raftlock._client import DEFAULT_TTL, Client
from raftlock._errors import (
    CancelledError,
    ClockError,
    ClosedError,
    DeniedError,
    ExistsError,
    ExpiredError,
    ForkedError,
    HeldError,
    InvalidError,
    LimitError,
    LostError,
    NoLeaderError,
    NoQuorumError,
    NotFoundError,
    NotHeldError,
    NotOwnerError,
    NotWaitingError,
    QueueFullError,
    RaftLockError,
    RateLimitedError,
    ReleasedError,
    RevokedError,
    SessionEndedError,
    StaleTokenError,
    SupersededError,
    UnnamedError,
    UsedUpError,
    WaitTimeout,
)
from raftlock._guard import Guard
from raftlock._lock import Lock
from raftlock._reads import Holder, LockInfo, Node, Status

__all__ = [
    "DEFAULT_TTL",
    "CancelledError",
    "Client",
    "ClockError",
    "ClosedError",
    "DeniedError",
    "ExistsError",
    "ExpiredError",
    "ForkedError",
    "Guard",
    "HeldError",
    "Holder",
    "InvalidError",
    "LimitError",
    "Lock",
    "LockInfo",
    "LostError",
    "NoLeaderError",
    "NoQuorumError",
    "Node",
    "NotFoundError",
    "NotHeldError",
    "NotOwnerError",
    "NotWaitingError",
    "QueueFullError",
    "RaftLockError",
    "RateLimitedError",
    "ReleasedError",
    "RevokedError",
    "SessionEndedError",
    "StaleTokenError",
    "Status",
    "SupersededError",
    "UnnamedError",
    "UsedUpError",
    "WaitTimeout",
]
