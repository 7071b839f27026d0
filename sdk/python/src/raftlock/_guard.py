"""The checking side: it remembers the highest token seen for a resource and refuses lower ones."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator

from raftlock._errors import ForkedError, InvalidError, StaleTokenError
from raftlock._mutex import Mutex, to_take

_TABLE = (
    "CREATE TABLE IF NOT EXISTS raftlock_tokens"
    " (resource TEXT PRIMARY KEY, token INTEGER NOT NULL) WITHOUT ROWID"
)
_RAISE = (
    "INSERT INTO raftlock_tokens VALUES (?, ?) ON CONFLICT (resource)"
    " DO UPDATE SET token = excluded.token WHERE excluded.token >= token"
)


class _State:
    """What a guard has in one process; a forked child begins with a new one."""

    def __init__(self, db: sqlite3.Connection | None) -> None:
        self.mu = Mutex()
        self.turns = threading.Condition(self.mu)
        self.writing: dict[str, int] = {}  # the token of the write under way, by resource
        self.db = db  # None: to be opened


class Guard:
    """Refuses whoever comes with a lower token than somebody before.

    Without a path it remembers in memory, and forgets with the process; with one,
    in an SQLite file, which survives crashes and is shared by the processes of
    a host: a token is on disk before it is let through. Equal ones pass, for a
    holder writes more than once. One resource takes the tokens of one lock.

    check() says nothing of the moment after it: a higher token may come, and its
    holder write, before the write that was checked. writing() keeps the other
    threads of this process out meanwhile. What is written to an SQLite database
    is guarded in the write's own transaction (check_within), and elsewhere the
    comparison is best the store's own: UPDATE ... WHERE token <= ?.

    All methods are safe from any thread. A forked child opens the file anew and
    has part in no write that was under way; a guard in memory raises ForkedError
    there. A fork waits for the checks that are under way in other threads.
    """

    def __init__(self, path: str = ":memory:") -> None:
        self._path = path if path == ":memory:" else os.path.abspath(path)
        self._closed = False
        with to_take(_guards_mu):
            self._state = _State(_open(self._path))
            _guards.add(self)

    def check(self, resource: str, token: int) -> None:
        """Let token through, or raise StaleTokenError: a higher one was seen for resource."""
        state = self._state
        with to_take(state.mu):
            _check(self._db(state), resource, token)

    @contextlib.contextmanager
    def writing(self, resource: str, token: int) -> Iterator[None]:
        """Check, and let no other write of resource begin in this process until the block is left.

        It waits for the one that is under way.
        """
        state = self._state
        with to_take(state.mu):
            state.turns.wait_for(lambda: resource not in state.writing)
            _check(self._db(state), resource, token)
            state.writing[resource] = token
        try:
            yield
        finally:
            if state is self._state:  # not in a child that was forked in the block
                with to_take(state.mu):
                    del state.writing[resource]
                    state.turns.notify_all()

    def highest(self, resource: str) -> int:
        """The highest token seen; 0: none."""
        state = self._state
        with to_take(state.mu):
            row = (
                self._db(state)
                .execute("SELECT token FROM raftlock_tokens WHERE resource = ?", (resource,))
                .fetchone()
            )
        return int(row[0]) if row else 0

    def close(self) -> None:
        """Close the file. Safe to repeat."""
        state = self._state
        with to_take(state.mu):
            self._closed = True
            if state.db is not None:
                state.db.close()

    def _db(self, state: _State) -> sqlite3.Connection:
        if state.db is None:
            if self._path == ":memory:":
                raise ForkedError("what a guard in memory has seen is its process's own")
            if self._closed:
                raise sqlite3.ProgrammingError("the guard is closed")
            state.db = _open(self._path)
        return state.db

    @staticmethod
    def check_within(connection: sqlite3.Connection, resource: str, token: int) -> None:
        """Check in the caller's transaction, so that check and write are one step.

        The tokens are kept in the table raftlock_tokens of the caller's database.
        On StaleTokenError the caller rolls back.
        """
        if not connection.in_transaction:
            connection.execute("BEGIN IMMEDIATE")
        connection.execute(_TABLE)
        _check(connection, resource, token)


def _open(path: str) -> sqlite3.Connection:
    db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
    if path != ":memory:":
        db.execute("PRAGMA synchronous = FULL")
    db.execute(_TABLE)
    return db


def _check(db: sqlite3.Connection, resource: str, token: int) -> None:
    # A token is positive; SQLite's integers have 63 bits.
    if not 0 < token < 1 << 63:
        raise InvalidError(f"token {token}")
    with contextlib.closing(db.execute(_RAISE, (resource, token))) as done:
        if done.rowcount != 1:
            raise StaleTokenError(f"token {token} of {resource!r}: a higher one was seen")


# Forks. SQLite's connections must not be used, nor closed, in a forked child, and
# what SQLite knows of a file's locks in a process is inherited too: so no check
# is under way while a fork is, and the child opens its own.

_guards_mu = Mutex()  # taken before any guard's own; guards are made under it
_guards: weakref.WeakSet[Guard] = weakref.WeakSet()
_stopped: list[_State] = []  # while a fork is under way; guarded by _guards_mu


def _before_fork() -> None:
    _guards_mu.acquire()
    for guard in list(_guards):
        state = guard._state
        state.mu.acquire()
        _stopped.append(state)


def _in_parent() -> None:
    while _stopped:
        _stopped.pop().mu.release()
    _guards_mu.release()


def _in_child() -> None:
    global _guards_mu
    _stopped.clear()
    for guard in list(_guards):
        inherited = guard._state.db
        if inherited is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))  # so that nothing closes it
        guard._state = _State(None)
    _guards_mu = Mutex()


os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
