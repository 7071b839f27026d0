"""What can be read from an agent, as plain values."""

from __future__ import annotations

from dataclasses import dataclass

from raftlock._clock import SECOND
from raftlock._errors import reason_name
from raftlock._proto import read_pb2


@dataclass(frozen=True)
class Holder:
    """Who holds a lock."""

    session: str  # hex; empty for plain requests
    owner: str  # "uid:1000@web-1" of a session; of plain requests the name their caller chose
    agent: str  # the agent it is attached to
    token: int


@dataclass(frozen=True)
class LockInfo:
    """One lock. One that nobody holds or waits for is not kept: all but the name is empty."""

    name: str
    held: bool
    holder: Holder | None
    waiters: int
    revoked: bool  # marked for giving up, and still held
    metadata: dict[str, str]
    ttl: float  # seconds; of the holder's session
    # What is left of that session's lease if nothing renews it. None in stale
    # reads: nobody but the leader knows.
    lease_left: float | None


@dataclass(frozen=True)
class Node:
    """One agent of the cluster."""

    name: str
    server_id: str
    address: str
    role: str  # "voter", "standby", "forwarder", "fresh" or "unknown"
    leader: bool
    alive: bool  # gossip hears of it


@dataclass(frozen=True)
class Status:
    """What one agent knows of itself and of its cluster."""

    agent: str
    version: str
    server_id: str
    cluster_id: str  # empty while the agent looks for a cluster
    doing: str  # what it waits for then
    reach: str  # "OK", "NO_LEADER" or "NO_QUORUM"
    leader_id: str
    leader_name: str
    term: int
    quorum_size: int  # how many voters make a majority; 0: not known
    has_quorum: bool  # a leader proved just now that it leads
    sessions: int  # attached to this agent, and what they hold and wait for
    holds: int
    waits: int
    nodes: tuple[Node, ...]
    behind: int = 0  # entries of the log that a voter lacks while it catches up


def lock_info(m: read_pb2.LockInfo) -> LockInfo:
    """Read one from its message."""
    holder = None
    if m.held:
        holder = Holder(m.holder.session.hex(), m.holder.owner, m.holder.agent, m.holder.token)
    left = m.lease_left_nanos / SECOND if m.HasField("lease_left_nanos") else None
    return LockInfo(
        name=m.name,
        held=m.held,
        holder=holder,
        waiters=m.waiters,
        revoked=m.revoked,
        metadata=dict(m.metadata),
        ttl=m.ttl_nanos / SECOND,
        lease_left=left,
    )


def status(m: read_pb2.StatusResponse) -> Status:
    """Read one from its message."""
    return Status(
        agent=m.agent,
        version=m.version,
        server_id=m.server_id,
        cluster_id=m.cluster_id,
        doing=m.doing,
        reach=reason_name(m.reach),
        leader_id=m.leader_id,
        leader_name=m.leader_name,
        term=m.term,
        quorum_size=m.quorum_size,
        has_quorum=m.has_quorum,
        sessions=m.sessions,
        holds=m.holds,
        waits=m.waits,
        nodes=tuple(_node(n) for n in m.nodes),
        behind=m.behind,
    )


def _node(n: read_pb2.Node) -> Node:
    role = "unknown"
    if n.role in read_pb2.Node.Role.values() and n.role != read_pb2.Node.ROLE_UNSPECIFIED:
        role = read_pb2.Node.Role.Name(n.role)[len("ROLE_") :].lower()
    return Node(n.name, n.server_id, n.address, role, n.leader, n.alive)
