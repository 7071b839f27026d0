"""The table of duties that all SDKs share: each names a test here, or why there is none."""

import re
from pathlib import Path

HERE = Path(__file__).parent


def test_every_duty_has_its_test():
    text = "".join(p.read_text() for p in HERE.glob("test_*.py"))
    there = set(re.findall(r"^def (test_\w+)\(", text, re.M))
    duties = 0
    for line in (HERE.parents[1] / "DUTIES.md").read_text().splitlines():
        if not line.startswith("| ") or line.startswith(("| duty", "| ---")):
            continue
        duties += 1
        cell = line.split("|")[3].strip()
        named = re.findall(r"`(test_\w+)`", cell)
        assert named or cell.startswith("none: "), line
        assert set(named) <= there, line
    assert duties >= 30
