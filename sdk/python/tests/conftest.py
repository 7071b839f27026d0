"""One real agent for all tests that want one; scripts run as processes of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import raftlock

ROOT = Path(__file__).resolve().parents[3]


class Agent:
    """A sidecar of one host, by itself a cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = str(folder / "raftlock.sock")
        self.log = folder.parent / f"{folder.name}.log"
        self.ports = free_ports(2)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        binary = Path(os.environ.get("RAFTLOCK_SIDECAR", ROOT / "bin" / "raftlock-sidecar"))
        assert binary.exists(), f"{binary} is missing: make build"
        gossip, peer = self.ports
        flags = ["--dev", "--dev-dir", self.folder, "--gossip-port", str(gossip), "--peer-port", str(peer)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([binary, *flags], stdout=log, stderr=log)
        try:
            with raftlock.Client(self.socket) as client, client.lock("ready", timeout=60):
                pass
        except raftlock.RaftLockError as err:
            raise AssertionError(self.log.read_text()) from err

    def stop(self, sig: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(sig)
            self.process.wait(30)
            self.process = None


def free_ports(n: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


@pytest.fixture(scope="session")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    it = Agent(tmp_path_factory.mktemp("agent"))
    it.start()
    yield it
    it.stop()


@pytest.fixture
def own_agent(tmp_path: Path) -> Iterator[Agent]:
    """An agent that the test may stop."""
    it = Agent(tmp_path / "agent")
    it.folder.mkdir()
    it.start()
    yield it
    it.stop(signal.SIGKILL)


@pytest.fixture
def client(agent: Agent) -> Iterator[raftlock.Client]:
    with raftlock.Client(agent.socket) as it:
        yield it


def script(text: str, *args: str, **kwargs: object) -> subprocess.Popen[str]:
    """Start a Python process that runs text."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(
        [sys.executable, "-W", "error::ResourceWarning", "-c", text, *args], **{**pipes, **kwargs}
    )


def eventually(true: object, seconds: float = 30.0) -> None:
    """Look until it is so; for what another process or thread does in its own time."""
    end = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)
