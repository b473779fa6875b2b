"""The runbook against the drills: no section without a rehearsal, or a reason for having none; and their outcomes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from drills import report
from drills.catalog import DRILLS, NOT_DRILLED, TESTED
from drills.model import Outcome

TOP = Path(__file__).parents[2]
RUNBOOK = (TOP / "docs" / "runbook.md").read_text(encoding="utf-8")
SECTIONS: dict[str, str] = dict(re.findall(r"^## (.+)\n((?:(?!^## ).*\n?)*)", RUNBOOK, re.MULTILINE))
DRILLED = {section for drill in DRILLS for section in drill.sections}
WITHOUT = [section for sections in NOT_DRILLED.values() for section in sections]


def test_each_section_is_rehearsed_or_says_why_not() -> None:
    assert len(SECTIONS) > 50
    known = [*DRILLED, *TESTED, *WITHOUT]
    assert set(SECTIONS) - set(known) == set(), "a section without a drill: add one to drills/catalog.py, or a reason"
    assert set(known) - set(SECTIONS) == set(), "a section that the runbook has not"
    assert len(known) == len(set(known)), "a section has one kind of rehearsal"


def test_names_are_unique() -> None:
    names = [drill.name for drill in DRILLS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("section", sorted(DRILLED))
def test_a_section_names_its_drills(section: str) -> None:
    named = set(re.findall(r"make drill NAME=([a-z-]+)", SECTIONS[section]))
    assert named == {drill.name for drill in DRILLS if section in drill.sections}


@pytest.mark.parametrize("test", sorted(TESTED.values()))
def test_a_test_that_stands_for_a_drill_is_there(test: str) -> None:
    path, _, name = test.partition("::")
    assert f"\ndef {name}(" in (TOP / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("module", ["drills", "drills.provoke"])
def test_they_start_as_make_starts_them(module: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-m", module, "--list"]
    done = subprocess.run(command, cwd=TOP, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- outcomes

GOOD: dict[str, Any] = {
    "name": "x",
    "sections": ("Alarms in general",),
    "seconds": 12.0,
    "measured": {"recovered": 3.25},
    "reads": {"sent": 2000, "due": 2000, "failed": 0, "retried": 1, "max_s": 0.4},
    "writes": {"acknowledged": 240, "lost": [], "failed": 0, "gap_s": 1.5},
    "equal": True,
}


def test_a_drill_is_good_when_nothing_failed_nothing_is_lost_and_all_members_agree() -> None:
    assert Outcome(**GOOD).wrong == []


@pytest.mark.parametrize(
    ("worse", "why"),
    [
        ({"error": "AssertionError: the play failed"}, "the play failed"),
        ({"reads": {**GOOD["reads"], "failed": 2, "failures": ["1.0 s: status 502"]}}, "2 reads failed"),
        ({"reads": {**GOOD["reads"], "sent": 100}}, "only 100 of 2000 reads were sent"),
        ({"reads": {}}, "all reads failed"),
        ({"writes": {**GOOD["writes"], "lost": [7]}}, "acknowledged writes are lost: [7]"),
        ({"writes": {**GOOD["writes"], "acknowledged": 0}}, "no write was acknowledged"),
        ({"writes": {}}, "acknowledged writes are lost: all"),
        ({"equal": False}, "data differ"),
    ],
)
def test_anything_else_fails_it(worse: dict[str, Any], why: str) -> None:
    found = Outcome(**{**GOOD, **worse})
    assert why in "; ".join(found.wrong)
    assert "**failed**" in report.row(found)


def test_the_report_keeps_the_outcomes_of_other_drills(tmp_path: Path) -> None:
    report.write([Outcome(**GOOD)], tmp_path)
    report.write([Outcome(**{**GOOD, "name": "y"})], tmp_path)
    report.write([Outcome(**{**GOOD, "seconds": 13.0})], tmp_path)
    kept = json.loads((tmp_path / "drills.json").read_text())
    assert [(one["name"], one["seconds"]) for one in kept] == [("x", 13.0), ("y", 12.0)]
    table = (tmp_path / "drills.md").read_text()
    assert "[Alarms in general](runbook.md#alarms-in-general)" in table
    assert {len(line.split(" | ")) for line in table.splitlines() if line[:3] != "|--"} == {10}
    assert (tmp_path / "drills.svg").read_text().count("<svg") == 1


@pytest.mark.parametrize("section", sorted(SECTIONS))
def test_links_lead_to_the_headings(section: str) -> None:
    anchor = re.sub(r"[^\w\- ]", "", section.lower()).replace(" ", "-")
    assert report.link(section).endswith(f"(runbook.md#{anchor})")


@pytest.mark.parametrize("package", ["drills", "soak", "bench"])
def test_the_programs_that_make_runs_start_from_the_top(package: str) -> None:
    """They find the project's own package without pytest's settings."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-m", package, "--help"], cwd=TOP, env=environment, check=False)
    assert done.returncode == 0
