from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor
REASON_CANCELLED: Reason
REASON_DENIED: Reason
REASON_EXISTS: Reason
REASON_EXPIRED: Reason
REASON_HELD: Reason
REASON_INVALID: Reason
REASON_LIMIT: Reason
REASON_LOST: Reason
REASON_NOT_FOUND: Reason
REASON_NOT_HELD: Reason
REASON_NOT_OWNER: Reason
REASON_NOT_WAITING: Reason
REASON_NO_LEADER: Reason
REASON_NO_QUORUM: Reason
REASON_OK: Reason
REASON_QUEUE_FULL: Reason
REASON_RATE_LIMITED: Reason
REASON_RELEASED: Reason
REASON_REVOKED: Reason
REASON_SESSION_ENDED: Reason
REASON_STALE_TOKEN: Reason
REASON_SUPERSEDED: Reason
REASON_UNSPECIFIED: Reason
REASON_USED_UP: Reason

class Acquire(_message.Message):
    __slots__ = ["lock", "metadata", "priority", "seq"]
    class MetadataEntry(_message.Message):
        __slots__ = ["key", "value"]
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    LOCK_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    TRY_FIELD_NUMBER: _ClassVar[int]
    lock: str
    metadata: _containers.ScalarMap[str, str]
    priority: int
    seq: int
    def __init__(self, seq: _Optional[int] = ..., lock: _Optional[str] = ..., priority: _Optional[int] = ..., metadata: _Optional[_Mapping[str, str]] = ..., **kwargs) -> None: ...

class Answer(_message.Message):
    __slots__ = ["detail", "reason", "seq", "standing", "ttl_nanos", "unknown"]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    STANDING_FIELD_NUMBER: _ClassVar[int]
    TTL_NANOS_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    detail: str
    reason: Reason
    seq: int
    standing: Standing
    ttl_nanos: int
    unknown: bool
    def __init__(self, seq: _Optional[int] = ..., reason: _Optional[_Union[Reason, str]] = ..., detail: _Optional[str] = ..., unknown: bool = ..., standing: _Optional[_Union[Standing, _Mapping]] = ..., ttl_nanos: _Optional[int] = ...) -> None: ...

class Attached(_message.Message):
    __slots__ = ["clock_nanos", "deadline_nanos", "detail", "reason", "seq", "stream_bound", "ttl_nanos"]
    CLOCK_NANOS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_NANOS_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    STREAM_BOUND_FIELD_NUMBER: _ClassVar[int]
    TTL_NANOS_FIELD_NUMBER: _ClassVar[int]
    clock_nanos: int
    deadline_nanos: int
    detail: str
    reason: Reason
    seq: int
    stream_bound: bool
    ttl_nanos: int
    def __init__(self, seq: _Optional[int] = ..., reason: _Optional[_Union[Reason, str]] = ..., detail: _Optional[str] = ..., deadline_nanos: _Optional[int] = ..., ttl_nanos: _Optional[int] = ..., clock_nanos: _Optional[int] = ..., stream_bound: bool = ...) -> None: ...

class Beat(_message.Message):
    __slots__ = ["clock_nanos"]
    CLOCK_NANOS_FIELD_NUMBER: _ClassVar[int]
    clock_nanos: int
    def __init__(self, clock_nanos: _Optional[int] = ...) -> None: ...

class Belief(_message.Message):
    __slots__ = ["lock", "seq", "token"]
    LOCK_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    lock: str
    seq: int
    token: int
    def __init__(self, seq: _Optional[int] = ..., token: _Optional[int] = ..., lock: _Optional[str] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ["target"]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    target: int
    def __init__(self, target: _Optional[int] = ...) -> None: ...

class End(_message.Message):
    __slots__ = []
    def __init__(self) -> None: ...

class Ended(_message.Message):
    __slots__ = ["reason"]
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: Reason
    def __init__(self, reason: _Optional[_Union[Reason, str]] = ...) -> None: ...

class Join(_message.Message):
    __slots__ = ["clock_nanos", "secret", "session"]
    CLOCK_NANOS_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    clock_nanos: int
    secret: bytes
    session: bytes
    def __init__(self, session: _Optional[bytes] = ..., secret: _Optional[bytes] = ..., clock_nanos: _Optional[int] = ...) -> None: ...

class Lease(_message.Message):
    __slots__ = ["clock_nanos", "deadline_nanos"]
    CLOCK_NANOS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_NANOS_FIELD_NUMBER: _ClassVar[int]
    clock_nanos: int
    deadline_nanos: int
    def __init__(self, deadline_nanos: _Optional[int] = ..., clock_nanos: _Optional[int] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ["clock_nanos", "lease_on_exit", "secret", "seq", "session", "ttl_nanos"]
    CLOCK_NANOS_FIELD_NUMBER: _ClassVar[int]
    LEASE_ON_EXIT_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    TTL_NANOS_FIELD_NUMBER: _ClassVar[int]
    clock_nanos: int
    lease_on_exit: bool
    secret: bytes
    seq: int
    session: bytes
    ttl_nanos: int
    def __init__(self, session: _Optional[bytes] = ..., secret: _Optional[bytes] = ..., seq: _Optional[int] = ..., ttl_nanos: _Optional[int] = ..., lease_on_exit: bool = ..., clock_nanos: _Optional[int] = ...) -> None: ...

class Reach(_message.Message):
    __slots__ = ["reason"]
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: Reason
    def __init__(self, reason: _Optional[_Union[Reason, str]] = ...) -> None: ...

class Reconcile(_message.Message):
    __slots__ = ["named", "next"]
    NAMED_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    named: _containers.RepeatedCompositeFieldContainer[Belief]
    next: int
    def __init__(self, next: _Optional[int] = ..., named: _Optional[_Iterable[_Union[Belief, _Mapping]]] = ...) -> None: ...

class Reconciled(_message.Message):
    __slots__ = ["answers", "standings", "unseen"]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    STANDINGS_FIELD_NUMBER: _ClassVar[int]
    UNSEEN_FIELD_NUMBER: _ClassVar[int]
    answers: _containers.RepeatedCompositeFieldContainer[Answer]
    standings: _containers.RepeatedCompositeFieldContainer[Standing]
    unseen: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, standings: _Optional[_Iterable[_Union[Standing, _Mapping]]] = ..., unseen: _Optional[_Iterable[int]] = ..., answers: _Optional[_Iterable[_Union[Answer, _Mapping]]] = ...) -> None: ...

class Release(_message.Message):
    __slots__ = ["hold", "lost", "seq", "token"]
    HOLD_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    hold: int
    lost: bool
    seq: int
    token: int
    def __init__(self, seq: _Optional[int] = ..., hold: _Optional[int] = ..., token: _Optional[int] = ..., lost: bool = ...) -> None: ...

class Resume(_message.Message):
    __slots__ = ["clock_nanos", "deadline_nanos", "secret", "seq", "session", "ttl_nanos"]
    CLOCK_NANOS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_NANOS_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    TTL_NANOS_FIELD_NUMBER: _ClassVar[int]
    clock_nanos: int
    deadline_nanos: int
    secret: bytes
    seq: int
    session: bytes
    ttl_nanos: int
    def __init__(self, session: _Optional[bytes] = ..., secret: _Optional[bytes] = ..., seq: _Optional[int] = ..., clock_nanos: _Optional[int] = ..., ttl_nanos: _Optional[int] = ..., deadline_nanos: _Optional[int] = ...) -> None: ...

class SessionRequest(_message.Message):
    __slots__ = ["ack_above", "ack_mark", "acquire", "beat", "cancel", "end", "join", "open", "reconcile", "release", "resume", "set_ttl", "trace"]
    ACK_ABOVE_FIELD_NUMBER: _ClassVar[int]
    ACK_MARK_FIELD_NUMBER: _ClassVar[int]
    ACQUIRE_FIELD_NUMBER: _ClassVar[int]
    BEAT_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    JOIN_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    RECONCILE_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    SET_TTL_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    ack_above: _containers.RepeatedScalarFieldContainer[int]
    ack_mark: int
    acquire: Acquire
    beat: Beat
    cancel: Cancel
    end: End
    join: Join
    open: Open
    reconcile: Reconcile
    release: Release
    resume: Resume
    set_ttl: SetTTL
    trace: Trace
    def __init__(self, ack_mark: _Optional[int] = ..., ack_above: _Optional[_Iterable[int]] = ..., open: _Optional[_Union[Open, _Mapping]] = ..., resume: _Optional[_Union[Resume, _Mapping]] = ..., beat: _Optional[_Union[Beat, _Mapping]] = ..., acquire: _Optional[_Union[Acquire, _Mapping]] = ..., cancel: _Optional[_Union[Cancel, _Mapping]] = ..., release: _Optional[_Union[Release, _Mapping]] = ..., set_ttl: _Optional[_Union[SetTTL, _Mapping]] = ..., reconcile: _Optional[_Union[Reconcile, _Mapping]] = ..., end: _Optional[_Union[End, _Mapping]] = ..., join: _Optional[_Union[Join, _Mapping]] = ..., trace: _Optional[_Union[Trace, _Mapping]] = ...) -> None: ...

class SessionResponse(_message.Message):
    __slots__ = ["answer", "attached", "ended", "lease", "reach", "reconciled", "update"]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    ATTACHED_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    REACH_FIELD_NUMBER: _ClassVar[int]
    RECONCILED_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    answer: Answer
    attached: Attached
    ended: Ended
    lease: Lease
    reach: Reach
    reconciled: Reconciled
    update: Update
    def __init__(self, attached: _Optional[_Union[Attached, _Mapping]] = ..., answer: _Optional[_Union[Answer, _Mapping]] = ..., update: _Optional[_Union[Update, _Mapping]] = ..., lease: _Optional[_Union[Lease, _Mapping]] = ..., reconciled: _Optional[_Union[Reconciled, _Mapping]] = ..., ended: _Optional[_Union[Ended, _Mapping]] = ..., reach: _Optional[_Union[Reach, _Mapping]] = ...) -> None: ...

class SetTTL(_message.Message):
    __slots__ = ["seq", "ttl_nanos"]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    TTL_NANOS_FIELD_NUMBER: _ClassVar[int]
    seq: int
    ttl_nanos: int
    def __init__(self, seq: _Optional[int] = ..., ttl_nanos: _Optional[int] = ...) -> None: ...

class Standing(_message.Message):
    __slots__ = ["deadline_nanos", "lock", "position", "reason", "revoked", "seq", "state", "token"]
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = []
    DEADLINE_NANOS_FIELD_NUMBER: _ClassVar[int]
    LOCK_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REVOKED_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STATE_GONE: Standing.State
    STATE_HELD: Standing.State
    STATE_UNSPECIFIED: Standing.State
    STATE_WAITING: Standing.State
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    deadline_nanos: int
    lock: str
    position: int
    reason: Reason
    revoked: bool
    seq: int
    state: Standing.State
    token: int
    def __init__(self, seq: _Optional[int] = ..., state: _Optional[_Union[Standing.State, str]] = ..., lock: _Optional[str] = ..., token: _Optional[int] = ..., position: _Optional[int] = ..., deadline_nanos: _Optional[int] = ..., revoked: bool = ..., reason: _Optional[_Union[Reason, str]] = ...) -> None: ...

class Trace(_message.Message):
    __slots__ = ["traceparent", "tracestate"]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    TRACESTATE_FIELD_NUMBER: _ClassVar[int]
    traceparent: str
    tracestate: str
    def __init__(self, traceparent: _Optional[str] = ..., tracestate: _Optional[str] = ...) -> None: ...

class Update(_message.Message):
    __slots__ = ["standing"]
    STANDING_FIELD_NUMBER: _ClassVar[int]
    standing: Standing
    def __init__(self, standing: _Optional[_Union[Standing, _Mapping]] = ...) -> None: ...

class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []
