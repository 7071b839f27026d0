from raftlock._proto import session_pb2 as _session_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetRequest(_message.Message):
    __slots__ = ["lock", "stale"]
    LOCK_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    lock: str
    stale: bool
    def __init__(self, lock: _Optional[str] = ..., stale: bool = ...) -> None: ...

class GetResponse(_message.Message):
    __slots__ = ["index", "lock", "stale"]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    LOCK_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    index: int
    lock: LockInfo
    stale: bool
    def __init__(self, lock: _Optional[_Union[LockInfo, _Mapping]] = ..., stale: bool = ..., index: _Optional[int] = ...) -> None: ...

class Holder(_message.Message):
    __slots__ = ["agent", "owner", "session", "token"]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    agent: str
    owner: str
    session: bytes
    token: int
    def __init__(self, session: _Optional[bytes] = ..., owner: _Optional[str] = ..., agent: _Optional[str] = ..., token: _Optional[int] = ...) -> None: ...

class ListRequest(_message.Message):
    __slots__ = ["after", "contested", "limit", "metadata", "owner", "pattern", "prefix", "stale"]
    class MetadataEntry(_message.Message):
        __slots__ = ["key", "value"]
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    AFTER_FIELD_NUMBER: _ClassVar[int]
    CONTESTED_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    PATTERN_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    after: str
    contested: bool
    limit: int
    metadata: _containers.ScalarMap[str, str]
    owner: str
    pattern: str
    prefix: str
    stale: bool
    def __init__(self, prefix: _Optional[str] = ..., pattern: _Optional[str] = ..., owner: _Optional[str] = ..., contested: bool = ..., metadata: _Optional[_Mapping[str, str]] = ..., after: _Optional[str] = ..., limit: _Optional[int] = ..., stale: bool = ...) -> None: ...

class ListResponse(_message.Message):
    __slots__ = ["index", "locks", "next", "stale"]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    LOCKS_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    index: int
    locks: _containers.RepeatedCompositeFieldContainer[LockInfo]
    next: str
    stale: bool
    def __init__(self, locks: _Optional[_Iterable[_Union[LockInfo, _Mapping]]] = ..., next: _Optional[str] = ..., stale: bool = ..., index: _Optional[int] = ...) -> None: ...

class LockInfo(_message.Message):
    __slots__ = ["held", "holder", "lease_left_nanos", "metadata", "name", "revoked", "ttl_nanos", "waiters"]
    class MetadataEntry(_message.Message):
        __slots__ = ["key", "value"]
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    HELD_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    LEASE_LEFT_NANOS_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    REVOKED_FIELD_NUMBER: _ClassVar[int]
    TTL_NANOS_FIELD_NUMBER: _ClassVar[int]
    WAITERS_FIELD_NUMBER: _ClassVar[int]
    held: bool
    holder: Holder
    lease_left_nanos: int
    metadata: _containers.ScalarMap[str, str]
    name: str
    revoked: bool
    ttl_nanos: int
    waiters: int
    def __init__(self, name: _Optional[str] = ..., held: bool = ..., holder: _Optional[_Union[Holder, _Mapping]] = ..., waiters: _Optional[int] = ..., revoked: bool = ..., metadata: _Optional[_Mapping[str, str]] = ..., ttl_nanos: _Optional[int] = ..., lease_left_nanos: _Optional[int] = ...) -> None: ...

class Node(_message.Message):
    __slots__ = ["address", "alive", "leader", "name", "role", "server_id"]
    class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = []
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    ALIVE_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    ROLE_FORWARDER: Node.Role
    ROLE_FRESH: Node.Role
    ROLE_STANDBY: Node.Role
    ROLE_UNSPECIFIED: Node.Role
    ROLE_VOTER: Node.Role
    SERVER_ID_FIELD_NUMBER: _ClassVar[int]
    address: str
    alive: bool
    leader: bool
    name: str
    role: Node.Role
    server_id: str
    def __init__(self, name: _Optional[str] = ..., server_id: _Optional[str] = ..., address: _Optional[str] = ..., role: _Optional[_Union[Node.Role, str]] = ..., leader: bool = ..., alive: bool = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = []
    def __init__(self) -> None: ...

class StatusResponse(_message.Message):
    __slots__ = ["agent", "behind", "cluster_id", "doing", "has_quorum", "holds", "leader_id", "leader_name", "nodes", "quorum_size", "reach", "server_id", "sessions", "term", "version", "waits"]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    BEHIND_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    DOING_FIELD_NUMBER: _ClassVar[int]
    HAS_QUORUM_FIELD_NUMBER: _ClassVar[int]
    HOLDS_FIELD_NUMBER: _ClassVar[int]
    LEADER_ID_FIELD_NUMBER: _ClassVar[int]
    LEADER_NAME_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    QUORUM_SIZE_FIELD_NUMBER: _ClassVar[int]
    REACH_FIELD_NUMBER: _ClassVar[int]
    SERVER_ID_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WAITS_FIELD_NUMBER: _ClassVar[int]
    agent: str
    behind: int
    cluster_id: str
    doing: str
    has_quorum: bool
    holds: int
    leader_id: str
    leader_name: str
    nodes: _containers.RepeatedCompositeFieldContainer[Node]
    quorum_size: int
    reach: _session_pb2.Reason
    server_id: str
    sessions: int
    term: int
    version: str
    waits: int
    def __init__(self, agent: _Optional[str] = ..., version: _Optional[str] = ..., server_id: _Optional[str] = ..., cluster_id: _Optional[str] = ..., doing: _Optional[str] = ..., reach: _Optional[_Union[_session_pb2.Reason, str]] = ..., leader_id: _Optional[str] = ..., leader_name: _Optional[str] = ..., term: _Optional[int] = ..., quorum_size: _Optional[int] = ..., has_quorum: bool = ..., sessions: _Optional[int] = ..., holds: _Optional[int] = ..., waits: _Optional[int] = ..., nodes: _Optional[_Iterable[_Union[Node, _Mapping]]] = ..., behind: _Optional[int] = ...) -> None: ...
