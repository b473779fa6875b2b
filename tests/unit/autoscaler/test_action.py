"""Actions: one at a time, with pauses after failures, however they end."""

import asyncio
import inspect
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from phoenix.autoscaler import action
from phoenix.autoscaler.config import Action
from tests.unit.shared import TOP, Clock, read_yaml

SETTINGS = Action(retry_seconds=5, retry_most_seconds=20)


class Target:
    """A target whose actions all do the same."""

    def __init__(self, act: Callable[[], action.Result]) -> None:
        self.act = act

    def scale_to(self, count: int, timeout: float) -> action.Result:
        return self.act()

    def recount(self, timeout: float) -> action.Result:
        return self.act()


def run_once(actions: action.Actions) -> action.Result:
    async def run() -> action.Result:
        actions.scale_to(3)
        assert actions.pending == 3
        assert not actions.ready()
        with pytest.raises(RuntimeError):
            actions.recount()
        while (result := actions.reap()) is None:
            await asyncio.sleep(0.001)
        return result

    return asyncio.run(run())


def test_pauses_double_and_end_with_a_success() -> None:
    outcomes = iter([action.Result(False, "no")] * 4 + [action.Result(True, "done")])
    clock = Clock(100.0)
    actions = action.Actions(Target(lambda: next(outcomes)), SETTINGS, clock)
    pauses = []
    for _ in range(4):
        assert not run_once(actions).good
        assert not actions.ready()
        pauses.append(actions.not_before - clock.now)
        clock.now = actions.not_before
    assert pauses == [5, 10, 20, 20]
    assert run_once(actions).good
    assert actions.ready()
    assert (actions.started, actions.failed, actions.failures) == (5, 4, 0)


def test_a_target_that_raises_is_a_failure() -> None:
    def broken() -> action.Result:
        raise OSError("no space left")

    actions = action.Actions(Target(broken), SETTINGS, Clock(100.0))
    result = run_once(actions)
    assert not result.good
    assert "no space left" in result.text


def test_the_loop_goes_on_meanwhile() -> None:
    go = threading.Event()

    def slow() -> action.Result:
        go.wait(5)
        return action.Result(True, "done")

    async def run() -> None:
        actions = action.Actions(Target(slow), SETTINGS, Clock(100.0))
        actions.scale_to(4)
        for _ in range(3):
            await asyncio.sleep(0.001)
            assert actions.reap() is None
            assert actions.pending == 4
        go.set()
        while actions.reap() is None:
            await asyncio.sleep(0.001)
        assert actions.pending is None

    asyncio.run(run())


def test_what_is_taken_from_the_events() -> None:
    seen: dict[str, object] = {"errors": [], "reports": {}}
    report = {"phoenix_scale": {"capacity": 6, "left_out": ["app2"], "reasons": {"app2": "no answer"}}}
    failed = {"task": "Take the lock", "host": "control1", "res": {"stderr": "held by ann", "msg": "rc"}}
    action._note({"event": "runner_on_failed", "event_data": failed}, seen)
    action._note({"event": "runner_on_failed", "event_data": {**failed, "ignore_errors": True}}, seen)
    action._note({"event": "playbook_on_stats", "event_data": {"ok": {}, "artifact_data": report}}, seen)
    assert seen == {"errors": ["control1: Take the lock: held by ann"], "reports": report}


def test_the_play_reports_what_is_read() -> None:
    """By the same names, whatever its tasks are called."""

    def tasks(blocks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for task in blocks:
            yield task
            for part in ("tasks", "block", "always"):
                yield from tasks(task.get(part) or [])

    play = read_yaml(TOP / "playbooks" / "scale.yml")
    (report,) = [
        task["ansible.builtin.set_stats"]["data"] for task in tasks(play) if "ansible.builtin.set_stats" in task
    ]
    assert set(report) == {"phoenix_scale"}
    read = set(re.findall(r'report\.get\("(\w+)"', inspect.getsource(action.Playbooks)))
    assert read
    assert read <= set(report["phoenix_scale"])


def test_a_dry_run_changes_nothing() -> None:
    assert action.DryRun().scale_to(3, 1.0).good
    assert action.DryRun().recount(1.0).good


def test_the_plays_and_their_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, dict[str, str], float]] = []

    def note(self: object, *arguments: object) -> action.Result:
        ran.append(arguments)  # type: ignore[arg-type]
        return action.Result(True, "done")

    monkeypatch.setattr(action.Playbooks, "run", note)
    playbooks = action.Playbooks(SETTINGS, tmp_path)
    playbooks.scale_to(3, 180.0)
    playbooks.recount(180.0)
    assert ran == [
        ("scale", {"phoenix_capacity": "3", "scale_lock_lease": "195"}, 180.0),
        ("recount", {}, 180.0),
    ]
