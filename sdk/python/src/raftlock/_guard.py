"""The checking side: it remembers the highest token seen for a resource and refuses lower ones."""

from __future__ import annotations

import contextlib
import sqlite3
import threading

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
    a host. check() returns once that is on disk. Between the check and the write
    that it allows, another may come: what is written to an SQLite database is
    guarded in the write's own transaction (check_within); elsewhere the
    comparison belongs into the store's own conditional write, or both under a
    mutex. All methods are safe from any thread.
    """

    def __init__(self, path: str = ":memory:") -> None:
        self._mu = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
        if path != ":memory:":
            self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(_TABLE)

    def check(self, resource: str, token: int) -> None:
        """Let token through, or raise StaleTokenError: a higher one was seen for resource."""
        with self._mu:
            _check(self._db, resource, token)

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
