#!/usr/bin/env python3
"""A payment that must happen once, although the client retries.

The bank here takes whatever it is told, as many times as it is told. So a client
looks whether the order was charged, and charges it if not. Three things can go
wrong with that, and happen here:

    two clients look before either charges    the lock makes look and charge one step
    a client is stopped between the two       the bank's guard refuses its late charge:
                                              the token is lower than one it has seen
    a client dies after the charge            the next one looks, and finds the charge

The example fails (exit status 1) if the order was charged more than once.

    examples/payment/payment.py
    examples/payment/payment.py --without-lock     # and so it fails
    examples/payment/payment.py --without-guard    # and so too

A bank that takes an idempotency key does all of this by itself: then use the key,
and no lock.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile

import raftlock

ORDER = "order-42"
LOCK = f"examples/payment/{ORDER}"
# Short, so that the stopped client's lease soon runs out; in earnest it is
# longer than an election (2 to 3 s).
TTL = 1.0
PATIENCE = 30.0  # seconds; bounds every wait, so that it ends without an agent too


class Bank:
    """Keeps charges in a file, in place of a service that many hosts ask."""

    def __init__(self, path: str, *, guarded: bool) -> None:
        self.path, self.guarded = path, guarded
        with self._open() as db:
            db.execute("CREATE TABLE IF NOT EXISTS charges (reference TEXT, by_client TEXT)")

    def charges(self, reference: str) -> list[str]:
        with self._open() as db:
            return [
                row[0]
                for row in db.execute("SELECT by_client FROM charges WHERE reference = ?", (reference,))
            ]

    def charge(self, reference: str, client: str, token: int | None) -> None:
        """Charge. Of a token lower than one it has seen: raftlock.StaleTokenError, and no charge."""
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            if self.guarded and token is not None:
                raftlock.Guard.check_within(db, reference, token)
            db.execute("INSERT INTO charges VALUES (?, ?)", (reference, client))
            db.execute("COMMIT")

    def _open(self) -> contextlib.closing[sqlite3.Connection]:
        return contextlib.closing(sqlite3.connect(self.path, isolation_level=None, timeout=PATIENCE))


def say(*words: object) -> None:
    print(*words, flush=True)


def told(word: str) -> None:
    """Wait for the example's word, where something slow would be."""
    if sys.stdin.readline().strip() != word:
        sys.exit(1)


def pay(client: str, bank: Bank, token: int | None, slow: bool, dies: bool) -> None:
    if bank.charges(ORDER):
        say(client, "finds it charged")
        return
    say(client, "finds no charge")
    if slow:
        told("go on")
    try:
        bank.charge(ORDER, client, token)
    except raftlock.StaleTokenError:
        say(client, "is refused: its time is over")
        return
    if dies:
        os.kill(os.getpid(), signal.SIGKILL)  # before it could tell anybody
    say(client, "charges")


def client_main(args: argparse.Namespace, bank: Bank) -> None:
    if args.without_lock:
        pay(args.client, bank, None, args.slow, args.dies)
        return
    with raftlock.Client(ttl=TTL) as client:
        try:
            with client.lock(LOCK, timeout=PATIENCE) as held:
                pay(args.client, bank, held.token, args.slow, args.dies)
        except raftlock.LostError:
            pass  # the work was refused, or done in time: the bank knows


def start(name: str, args: argparse.Namespace, *how: str) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--client", name, "--bank", args.bank, *how]
    command += ["--without-lock"] * args.without_lock + ["--without-guard"] * args.without_guard
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def story(args: argparse.Namespace, bank: Bank) -> None:
    first = start("client 1", args, "--slow")
    try:
        assert first.stdout is not None
        print(first.stdout.readline().strip())
        first.send_signal(signal.SIGSTOP)
        print("client 1 is stopped before it charges; the customer tries again")

        said, _ = start("client 2", args, "--dies").communicate(timeout=2 * PATIENCE)
        print(said.strip())
        print("client 2 dies after its charge; the customer tries again")

        first.send_signal(signal.SIGCONT)
        said, _ = first.communicate("go on\n", timeout=2 * PATIENCE)
        print(said.strip())
        said, _ = start("client 3", args).communicate(timeout=2 * PATIENCE)
        print(said.strip())
    finally:
        first.kill()
        first.wait()

    charges = bank.charges(ORDER)
    if len(charges) != 1:
        sys.exit(f"FAILED: charged {len(charges)} times, by {' and '.join(charges)}")
    print(f"ok: charged once, by {charges[0]}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--without-lock", action="store_true", help="leave the lock out, to see what it is for"
    )
    parser.add_argument("--without-guard", action="store_true", help="leave the bank's guard out, likewise")
    parser.add_argument("--client", help=argparse.SUPPRESS)  # the example starts itself so
    parser.add_argument("--bank", help=argparse.SUPPRESS)
    parser.add_argument("--slow", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--dies", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.client:
        client_main(args, Bank(args.bank, guarded=not args.without_guard))
        return
    with tempfile.TemporaryDirectory() as directory:
        args.bank = f"{directory}/bank.db"
        story(args, Bank(args.bank, guarded=not args.without_guard))


if __name__ == "__main__":
    main()
