"""What an agent's refusal of a plain call says: a google.rpc.ErrorInfo of domain "raftlock"."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from raftlock._errors import RaftLockError, UnnamedError, WaitTimeout, named

_DOMAIN = "raftlock"


def _info(err: Any) -> Any:
    """Find what the agent said; there is none in errors that gRPC itself makes."""
    for key, value in err.trailing_metadata() or ():
        if key != "grpc-status-details-bin":
            continue
        status = status_pb2.Status()
        try:
            status.ParseFromString(value)
        except DecodeError:
            return None
        for detail in status.details:
            info = error_details_pb2.ErrorInfo()
            if detail.Is(info.DESCRIPTOR) and detail.Unpack(info) and info.domain == _DOMAIN:
                return info
    return None


def obstacle_of(err: Any) -> str:
    """What broke the connection, of an error that asking again may mend; else ""."""
    if err.code() is grpc.StatusCode.UNAVAILABLE and _info(err) is None:
        return err.details() or "unavailable"
    return ""


def from_rpc(err: Any, doing: str, path: str, obstacle: str) -> RaftLockError:
    """Turn gRPC's error into ours. One that names no reason is an UnnamedError or a WaitTimeout."""
    info = _info(err)
    if info is not None:
        applied = "no" if info.metadata.get("applied") == "no" else "unknown"
        detail = f"{doing}: {err.details()}"
        return named(info.reason, detail, applied=applied)
    if obstacle:
        return WaitTimeout(f"{doing}: no connection to the agent at {path}: {obstacle}")
    if err.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return WaitTimeout(f"{doing}: no answer from the agent at {path}")
    return UnnamedError(f"{doing}: {err.code().name}: {err.details()}", applied="unknown")
