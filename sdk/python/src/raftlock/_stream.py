"""The way to an agent: gRPC over its Unix socket.

gRPC cannot be used in a child that was forked after its parent used it: its
threads are gone there, and calls hang. So it is begun at the first call, the
process that did so is noted, and a forked child is refused. A child also
inherits the parent's connections; ending them there would end them for the
parent, so the child never lets go of them.
"""

from __future__ import annotations

import ctypes
import os
import urllib.parse
import warnings
from collections.abc import Iterator
from typing import Any, Protocol

import grpc

from raftlock._errors import ForkedError, InvalidError
from raftlock._mutex import Mutex, to_take
from raftlock._proto import read_pb2, session_pb2

# The answer to a reconcile names every wait and hold of the session.
MESSAGE_BYTES_MAX = 16 << 20
# What the kernel's sockaddr_un holds.
SOCKET_PATH_MAX = 107
SERVICE = "/raftlock.v1.RaftLock/"
SOCKETS = ("/run/raftlock.sock", "/run/raftlock/raftlock.sock")

# gRPC's own handlers of forks, and how it is told to use them.
FORK_SUPPORT = "GRPC_ENABLE_FORK_SUPPORT"
_TRUE = ("1", "t", "true", "y", "yes")

_OPTIONS = (
    # Newer ones would send the escaped path, which some servers refuse.
    ("grpc.default_authority", "localhost"),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    # As sessions do: whoever waits for an agent's restart waits little longer.
    ("grpc.initial_reconnect_backoff_ms", 10),
    ("grpc.min_reconnect_backoff_ms", 10),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


class Stream(Protocol):
    """One session stream: iterate it for answers; an exception or the end is its break."""

    def __iter__(self) -> Iterator[session_pb2.SessionResponse]:
        """Yield the answers as they come."""

    def close(self) -> None:
        """End it: reading and sending stop. Safe to repeat and from any thread."""


class Dialer(Protocol):
    """Makes a stream, which sends what requests yields as soon as it can."""

    def __call__(self, requests: Iterator[session_pb2.SessionRequest]) -> Stream:
        """Make a stream. Raises what stands in the way."""


def socket_path(given: str | None) -> str:
    """The socket to use now: the one given, RAFTLOCK_SOCKET's, else the first usual one that is there."""
    path = given or os.environ.get("RAFTLOCK_SOCKET")
    if path:
        return path
    return next((p for p in SOCKETS if os.path.exists(p)), SOCKETS[0])


def check_path(path: str) -> None:
    """Refuse what the kernel would."""
    if len(os.fsencode(os.path.abspath(path))) > SOCKET_PATH_MAX:
        raise InvalidError(f"socket path {path!r} is longer than {SOCKET_PATH_MAX} bytes")


_begun: int | None = None  # the process that began to use gRPC
_alive: set[Any] = set()  # what must outlive a fork in the child
_alive_mu = Mutex()


def begin() -> None:
    """Note that this process uses gRPC. Raises ForkedError where it cannot."""
    global _begun
    if _begun is None:
        _begun = os.getpid()
        if os.environ.get(FORK_SUPPORT, "").strip().lower() in _TRUE:
            warnings.warn(
                f"{FORK_SUPPORT} is set: children forked while other threads use a client can hang in gRPC;"
                " set it to 0, handles are inert in forked children without it",
                RuntimeWarning,
                stacklevel=2,
            )
    elif _begun != os.getpid():
        raise ForkedError(
            "its parent had used gRPC, which does not work in a forked child;"
            " take the parent's first lock after the fork, or start the child by spawn or exec"
        )


def new_channel(path: str) -> grpc.Channel:
    """Make a channel, which connects at its first call."""
    begin()
    target = "unix:" + urllib.parse.quote(os.path.abspath(path))
    channel = grpc.insecure_channel(target, options=_OPTIONS)
    with to_take(_alive_mu):
        _alive.add(channel)
    return channel


def close_channel(channel: grpc.Channel) -> None:
    """Close what new_channel made, in the process that made it."""
    if _begun == os.getpid():
        channel.close()
        with to_take(_alive_mu):
            _alive.discard(channel)


class SocketStream:
    """A stream with a connection of its own: a shared one would back off behind the session's back."""

    def __init__(self, path: str, requests: Iterator[session_pb2.SessionRequest]) -> None:
        self._channel = new_channel(path)
        session = self._channel.stream_stream(
            SERVICE + "Session",
            request_serializer=session_pb2.SessionRequest.SerializeToString,
            response_deserializer=session_pb2.SessionResponse.FromString,
        )
        self._call = session(requests)
        with to_take(_alive_mu):
            _alive.add(self._call)

    def __iter__(self) -> Iterator[session_pb2.SessionResponse]:
        return iter(self._call)

    def close(self) -> None:
        """See Stream."""
        if _begun != os.getpid():
            return
        self._call.cancel()
        close_channel(self._channel)
        with to_take(_alive_mu):
            _alive.discard(self._call)


class Reader:
    """The unary calls of one channel."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.get = channel.unary_unary(
            SERVICE + "Get",
            request_serializer=read_pb2.GetRequest.SerializeToString,
            response_deserializer=read_pb2.GetResponse.FromString,
        )
        self.list = channel.unary_unary(
            SERVICE + "List",
            request_serializer=read_pb2.ListRequest.SerializeToString,
            response_deserializer=read_pb2.ListResponse.FromString,
        )
        self.status = channel.unary_unary(
            SERVICE + "Status",
            request_serializer=read_pb2.StatusRequest.SerializeToString,
            response_deserializer=read_pb2.StatusResponse.FromString,
        )


def _in_child() -> None:
    """Keep every inherited call and connection for ever: their finalisers would speak on them."""
    global _alive_mu
    for thing in _alive:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
    _alive_mu = Mutex()


os.register_at_fork(after_in_child=_in_child)
