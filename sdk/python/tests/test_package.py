"""The package: what it claims, what it says of itself, and its README's samples."""

import re
from importlib import metadata, resources
from pathlib import Path

import pytest
from conftest import script

import raftlock

HERE = Path(__file__).parents[1]


def lower_bounds():
    text = (HERE / "pyproject.toml").read_text()
    return dict(re.findall(r'"([a-z-]+)>=([\d.]+)"', text.split("[tool.")[0]))


def test_the_oldest_that_is_claimed_is_what_is_tested():
    pinned = dict(re.findall(r"^([a-z-]+)==([\d.]+)$", (HERE / "requirements/oldest.txt").read_text(), re.M))
    claimed = lower_bounds()
    claimed.pop("hatchling")
    assert set(claimed) == {"grpcio", "protobuf", "googleapis-common-protos", "opentelemetry-api"}
    for name, version in claimed.items():
        want = version if version.count(".") == 2 else version + ".0"
        assert pinned[name] == want, name


def test_generated_code_is_no_newer_than_the_oldest_protobuf():
    """What newer compilers make asks for its own version when it is loaded."""
    for path in (HERE / "src/raftlock/_proto").glob("*_pb2.py"):
        assert "runtime_version" not in path.read_text()


def test_it_is_typed():
    assert resources.files("raftlock").joinpath("py.typed").is_file()
    assert metadata.version("raftlock") == "0.1.0"


def test_every_name_is_documented():
    for name in raftlock.__all__:
        it = getattr(raftlock, name)
        if isinstance(it, type):
            assert it.__doc__, name
            for member, value in vars(it).items():
                if not member.startswith("_") and (callable(value) or isinstance(value, property)):
                    assert value.__doc__, f"{name}.{member}"


@pytest.mark.parametrize("path", [HERE / "README.md", HERE / "src/raftlock/__init__.py"])
def test_lines_are_of_readable_length(path):
    assert all(len(line) <= 140 for line in path.read_text().splitlines())


def test_samples_of_the_readme(agent, tmp_path, monkeypatch):
    """All of them, as one program."""
    samples = re.findall(r"```python\n(.*?)```", (HERE / "README.md").read_text(), re.S)
    assert len(samples) >= 5
    monkeypatch.setenv("RAFTLOCK_SOCKET", agent.socket)
    process = script("".join(samples), cwd=tmp_path)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert re.fullmatch(r"mine, with token \d+\n(step \d with token \d+\n){3}False\n\S+\n", out), out


def test_all_lists_all():
    assert sorted(n for n in vars(raftlock) if not n.startswith("_")) == sorted(raftlock.__all__)
