"""The checking side: it remembers the highest token seen for a resource and refuses lower ones."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator

from raftlock._errors import InvalidError, StaleTokenError

_TABLE = (
    "CREATE TABLE IF NOT EXISTS raftlock_tokens"
    " (resource TEXT PRIMARY KEY, token INTEGER NOT NULL) WITHOUT ROWID"
)
_RAISE = (
    "INSERT INTO raftlock_tokens VALUES (?, ?) ON CONFLICT (resource)"
    " DO UPDATE SET token = excluded.token WHERE excluded.token >= token"
)


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

    All methods are safe from any thread.
    """

    def __init__(self, path: str = ":memory:") -> None:
        self._mu = threading.Lock()
        self._turns = threading.Condition(self._mu)
        self._writing: dict[str, int] = {}  # the token of the write under way, by resource
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
        if path != ":memory:":
            self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(_TABLE)

    def check(self, resource: str, token: int) -> None:
        """Let token through, or raise StaleTokenError: a higher one was seen for resource."""
        with self._mu:
            _check(self._db, resource, token)

    @contextlib.contextmanager
    def writing(self, resource: str, token: int) -> Iterator[None]:
        """Check, and let no other write of resource begin in this process until the block is left.

        It waits for the one that is under way.
        """
        with self._mu:
            self._turns.wait_for(lambda: resource not in self._writing)
            _check(self._db, resource, token)
            self._writing[resource] = token
        try:
            yield
        finally:
            with self._mu:
                del self._writing[resource]
                self._turns.notify_all()

    def highest(self, resource: str) -> int:
        """The highest token seen; 0: none."""
        with self._mu:
            row = self._db.execute(
                "SELECT token FROM raftlock_tokens WHERE resource = ?", (resource,)
            ).fetchone()
        return int(row[0]) if row else 0

    def close(self) -> None:
        """Close the file. Safe to repeat."""
        with self._mu:
            self._db.close()

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


def _check(db: sqlite3.Connection, resource: str, token: int) -> None:
    # A token is positive; SQLite's integers have 63 bits.
    if not 0 < token < 1 << 63:
        raise InvalidError(f"token {token}")
    with contextlib.closing(db.execute(_RAISE, (resource, token))) as done:
        if done.rowcount != 1:
            raise StaleTokenError(f"token {token} of {resource!r}: a higher one was seen")
