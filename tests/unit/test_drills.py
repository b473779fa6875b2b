"""The runbook against the drills: no section without a rehearsal, or a reason for having none; and their outcomes."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from drills import __main__ as runner
from drills import database, report, run, upgrades
from drills.catalog import DRILLS, NOT_DRILLED, TESTED
from drills.cuts import LATEST_S, Cuts
from drills.model import WITHOUT_AUTOSCALER, Drill, Outcome, Scene
from phoenix import __version__
from tests.harness import load, plays, writes
from tests.harness.waiting import wait_for

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


@pytest.mark.parametrize(
    ("module", "option"), [("drills", "--list"), ("drills.provoke", "--list"), ("soak", "--help"), ("bench", "--help")]
)
def test_the_programs_start_as_make_starts_them(module: str, option: str) -> None:
    """From the top: they find the project's own package without pytest's settings."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-m", module, option]
    done = subprocess.run(command, cwd=TOP, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- outcomes

GOOD: dict[str, Any] = {
    "name": "x",
    "sections": ("Alarms in general",),
    "seconds": 10.0,
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
        ({"seconds": 60.0}, "the reads ended before the drill, which took 60 s"),
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
    report.write([Outcome(**{**GOOD, "seconds": 11.0})], tmp_path)
    kept = json.loads((tmp_path / "drills.json").read_text())
    assert [(one["name"], one["seconds"]) for one in kept] == [("x", 11.0), ("y", 10.0)]
    table = (tmp_path / "drills.md").read_text()
    assert "2 drills, each under 200 reads and 20 majority writes a second: **all good**." in table
    assert "[Alarms in general](../docs/runbook.md#alarms-in-general)" in table and "(drills.svg)" in table
    assert {len(line.split(" | ")) for line in table.splitlines() if line[:2] == "| "} == {11}
    assert (tmp_path / "drills.svg").read_text().count("<svg") == 1


def test_a_long_error_is_one_line_of_its_cell(tmp_path: Path) -> None:
    failed = Outcome(**{**GOOD, "error": f"AssertionError: patch.yml failed: a | b {'x' * 500}\nTASK [Reboot it]"})
    report.write([failed, Outcome(**{**GOOD, "name": "y"})], tmp_path)
    table = (tmp_path / "drills.md").read_text()
    assert "2 drills" in table and "**1 failed**" in table
    assert "patch.yml failed: a \\| b xxx" in table and "TASK" not in table and "x" * 300 not in table
    assert "TASK [Reboot it]" in (tmp_path / "drills.json").read_text()


@pytest.mark.parametrize("section", sorted(SECTIONS))
def test_links_lead_to_the_headings(section: str) -> None:
    anchor = re.sub(r"[^\w\- ]", "", section.lower()).replace(" ", "-")
    assert report.link(section).endswith(f"(../docs/runbook.md#{anchor})")


# --- the program that plays them


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A fleet on which nothing is done; all reads succeed, and all writes are acknowledged."""

    @contextmanager
    def result(name: str) -> Iterator[dict[str, Any]]:
        yield dict(GOOD[name])

    monkeypatch.setattr(writes, "writes", lambda *_, **__: result("writes"))
    monkeypatch.setattr(load, "load", lambda *_, **__: result("reads"))
    monkeypatch.setattr(writes, "data_equal", lambda _: True)
    monkeypatch.setattr(run, "first_of", lambda *_: None)
    monkeypatch.setattr(Scene, "first", lambda *_: "control1")
    return Scene("inventories/lab", "https://192.0.2.1")


class Running:
    """A play that takes 100 s."""

    pid, returncode = 4321, 0

    def communicate(self, timeout: float = 0) -> tuple[str, None]:
        if 0 < timeout < 100:
            raise subprocess.TimeoutExpired("ansible-playbook", timeout)
        return "", None


def test_each_play_is_killed_once_before_it_is_played_whole(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    done = list[str]()

    def begin(_: str, name: str, *options: str, **variables: Any) -> Running:
        done.append(f"start {name} {options} {variables}")
        return Running()

    def whole(_: str, name: str, *options: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        done.append(f"run {name} {options} {variables}")
        return subprocess.CompletedProcess([], 0, "", "")

    monkeypatch.setattr(plays, "start", begin)
    monkeypatch.setattr(plays, "run", whole)
    monkeypatch.setattr(plays, "kill", lambda running: done.append(f"kill {running.pid}"))

    def patch(scene: Scene) -> dict[str, float]:
        scene.play("patch", "-l", "db1", a="1")
        return {}

    cuts = Cuts(3)
    cut = Scene(scene.inventory, scene.url, cuts)
    draw = random.Random(3)
    late = [draw.uniform(1, LATEST_S) > 100 for _ in range(8)]
    assert set(late) == {False, True}
    for ended in late:
        done.clear()
        outcome = run.play(Drill("x", (), patch), cut)
        words = "patch ('-l', 'db1') {'a': '1'}"
        assert done == [f"start {words}", *([] if ended else ["kill 4321"]), f"run {words}"]
        assert ("killed once: patch, which had ended" if ended else "killed once: patch after ") in outcome.run
    done.clear()
    scene.play("patch")
    assert done == ["run patch () {}"]


def test_what_is_killed_has_no_processes_left() -> None:
    """Also one in a session of its own, as Ansible's workers have."""
    script = "setsid sleep 300 & echo $!; wait"
    running = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True)
    assert running.stdout
    worker = Path("/proc", running.stdout.readline().strip(), "stat")
    assert worker.exists()
    plays.kill(running)
    assert running.returncode == -signal.SIGKILL
    # Where nothing reaps it, it stays as a zombie.
    wait_for(lambda: not worker.exists() or ") Z" in worker.read_text(), 60, "the worker has ended")


def fail(_: Scene) -> Any:
    raise RuntimeError("the host is gone")


def test_what_a_drill_measured_is_its_outcome(scene: Scene) -> None:
    outcome = run.play(Drill("x", ("Alarms in general",), lambda _: {"recovered": 3.25}), scene)
    assert (
        outcome.wrong == []
        and outcome.measured == {"recovered": 3.25}
        and outcome.run.endswith(f", {__version__}, lab")
    )


@pytest.mark.parametrize("step", ["prepare", "act", "clean"])
def test_whatever_fails_is_the_outcome_and_cleaned_up(scene: Scene, step: str) -> None:
    cleaned = list[str]()
    steps: dict[str, Any] = {"act": lambda _: {"recovered": 3.25}, "clean": lambda _: cleaned.append(step), step: fail}
    outcome = run.play(Drill("x", ("Alarms in general",), **steps), scene)
    (why, *_) = outcome.wrong
    assert why == f"{'clean-up: ' if step == 'clean' else ''}RuntimeError: the host is gone"
    assert outcome.measured == ({"recovered": 3.25} if step == "clean" else {})
    assert cleaned == ([] if step == "clean" else [step])


def test_a_load_that_fails_does_not_hide_why_the_drill_did(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def failing() -> Iterator[dict[str, Any]]:
        yield {}
        raise RuntimeError("the writer has ended")

    monkeypatch.setattr(writes, "writes", lambda *_, **__: failing())
    error = run.play(Drill("x", (), fail), scene).error
    assert error == "RuntimeError: the host is gone; RuntimeError: the writer has ended"


def test_members_that_do_not_answer_are_an_outcome(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writes, "data_equal", fail)
    assert "data differ" in "; ".join(run.play(Drill("x", (), lambda _: {}), scene).wrong)


@pytest.mark.parametrize(("whole", "played"), [(True, ["a", "b", "c"]), (False, ["a", "b"])])
def test_those_after_a_failed_one_are_played_on_a_whole_fleet_alone(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, whole: bool, played: list[str]
) -> None:
    drills = [Drill("a", (), lambda _: {}), Drill("b", (), fail), Drill("c", (), lambda _: {})]
    monkeypatch.setattr(runner, "DRILLS", drills)
    monkeypatch.setattr(runner, "FOLDER", tmp_path)
    monkeypatch.setattr(runner, "still", lambda _: nullcontext())
    monkeypatch.setattr(runner, "whole", lambda _: whole)
    monkeypatch.setenv("PHOENIX_INVENTORY", scene.inventory)
    monkeypatch.setenv("PHOENIX_URL", scene.url)
    monkeypatch.setattr(sys, "argv", ["drills"])
    assert runner.main() == 1
    assert [one["name"] for one in json.loads((tmp_path / "drills.json").read_text())] == played


def test_a_drill_is_played_on_the_inventory_that_it_needs() -> None:
    assert "upgrade-mongodb" not in [drill.name for drill in runner.chosen_of([], False, "lab")]
    assert "upgrade-mongodb" in [drill.name for drill in runner.chosen_of([], False, "mongodb-5.0")]
    with pytest.raises(ValueError, match=r"upgrade-mongodb on mongodb-5\.0"):
        runner.chosen_of(["upgrade-mongodb"], False, "lab")
    known = {path.name for path in (TOP / "inventories").iterdir() if path.is_dir()}
    assert {drill.inventory for drill in DRILLS} - {""} <= known


# --- what they do


def test_whole_runs_of_site_leave_the_autoscaler_stopped(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would scale in the middle of the drill, and of those after it."""
    begun = list[tuple[str, tuple[str, ...]]]()

    def begin(_: str, name: str, *options: str, **__: Any) -> subprocess.CompletedProcess[str]:
        begun.append((name, options))
        # Without a provider, upgrade-debian.yml ends once the host is out of service.
        first = [one for one, _ in begun] == ["upgrade-debian"]
        return subprocess.CompletedProcess(
            [], int(first), "app2 is out of service. Then install Debian 13 on it or", ""
        )

    class Runs:
        is_running = True

    class Host:
        def service(self, _: str) -> Runs:
            return Runs()

    monkeypatch.setattr(plays, "run", begin)
    monkeypatch.setattr(Scene, "hosts", lambda _, group: {f"{group}{number}": Host() for number in (1, 2, 3)})
    for module in (database, upgrades):
        monkeypatch.setattr(module, "replace", lambda *_: None)
    monkeypatch.setattr(database, "one_primary", lambda _: "db1")
    monkeypatch.setattr(database, "whole", lambda _: True)
    monkeypatch.setattr(database, "another_is_primary", lambda *_: 1.0)
    monkeypatch.setattr(upgrades, "output_of", lambda *_: "13")
    database.replace_members(scene)
    assert [name for name, _ in begun] == ["site", "replace-host"]
    assert all(options == WITHOUT_AUTOSCALER for _, options in begun)
    begun.clear()
    upgrades._with_debian(scene, "13")
    assert begun == [("upgrade-debian", WITHOUT_AUTOSCALER)] * 2
