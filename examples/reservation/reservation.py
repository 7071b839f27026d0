#!/usr/bin/env python3
"""Guests of a restaurant book tables, each at another host of the cluster.

While a guest decides, the table is locked: others take the next one instead of
waiting (try_lock), and can read who decides (metadata). A guest whose program
dies gives the table back at that instant. A booking is written with the lock's
token, so that one who decided for too long cannot write over a later guest's.
The example fails (exit status 1) if a table is booked twice.

    examples/reservation/reservation.py
    examples/reservation/reservation.py --without-lock    # and so it fails
"""

from __future__ import annotations

import argparse
import contextlib
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import raftlock

TABLES = 3
PREFIX = "examples/table/"
PATIENCE = 30.0  # seconds; bounds every wait, so that it ends without an agent too


@contextlib.contextmanager
def database(path: str) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=PATIENCE)) as db:
        db.execute("CREATE TABLE IF NOT EXISTS bookings (place INTEGER, guest TEXT)")
        yield db


def booked(path: str, place: int) -> bool:
    with database(path) as db:
        return db.execute("SELECT 1 FROM bookings WHERE place = ?", (place,)).fetchone() is not None


def book(path: str, place: int, guest: str, token: int | None) -> None:
    """Write a booking; the check of the token is in the same transaction."""
    with database(path) as db:
        db.execute("BEGIN IMMEDIATE")
        if token is not None:
            raftlock.Guard.check_within(db, f"{PREFIX}{place}", token)
        db.execute("INSERT INTO bookings VALUES (?, ?)", (place, guest))
        db.execute("COMMIT")


def say(*words: object) -> None:
    print(*words, flush=True)


def guest_comes(guest: str, path: str, decides: float, without_lock: bool) -> None:
    """All that one guest's program does."""
    with raftlock.Client() as client:
        for place in range(1, TABLES + 1):
            try:
                held = (
                    contextlib.nullcontext()
                    if without_lock
                    else client.try_lock(f"{PREFIX}{place}", metadata={"guest": guest}, timeout=PATIENCE)
                )
            except raftlock.HeldError:
                continue  # somebody decides about it: the next one
            with held as lock:
                if booked(path, place):
                    continue
                say(guest, "decides about table", place)
                time.sleep(decides)
                book(path, place, guest, lock.token if lock else None)
                say(guest, "books table", place)
                return
    say(guest, "finds no table")


def start(guest: str, path: str, decides: float, without_lock: bool) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--guest", guest, "--database", path, "--decides", str(decides)]
    if without_lock:
        command.append("--without-lock")
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def evening(path: str, without_lock: bool) -> None:
    """Let guests come, and look at the bookings."""
    first = start("Ada", path, 60, without_lock)
    try:
        assert first.stdout is not None
        print(first.stdout.readline().strip())
        if not without_lock:
            with raftlock.Client() as client:
                for lock in client.locks(prefix=PREFIX):
                    print(lock.name, "is held by", lock.metadata["guest"])
    finally:
        first.kill()
        first.wait()
    print("Ada's program dies")

    guests = [start(name, path, 1, without_lock) for name in ("Ben", "Cleo", "Dora", "Emil")]
    for guest in guests:
        said, _ = guest.communicate(timeout=2 * PATIENCE)
        print(said.strip().splitlines()[-1] if said else "(nothing)")

    with database(path) as db:
        bookings = db.execute("SELECT place, guest FROM bookings ORDER BY place").fetchall()
    places = [place for place, _ in bookings]
    if sorted(places) != list(range(1, TABLES + 1)):
        sys.exit(f"FAILED: the bookings are {bookings}")
    print(f"ok: {TABLES} tables, each booked once")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--without-lock", action="store_true", help="leave the lock out, to see what it is for"
    )
    parser.add_argument("--guest", help=argparse.SUPPRESS)  # the example starts itself so
    parser.add_argument("--database", help=argparse.SUPPRESS)
    parser.add_argument("--decides", type=float, default=1, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.guest:
        guest_comes(args.guest, args.database, args.decides, args.without_lock)
        return
    with tempfile.TemporaryDirectory() as directory:
        evening(f"{directory}/bookings.db", args.without_lock)


if __name__ == "__main__":
    main()
