"""The course of a soak: what it does when a fault fails, the fleet does not recover, or somebody presses Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from drills.model import Scene
from soak import found, run
from soak.faults import Fault
from soak.found import Found
from soak.schedule import Kind, Step
from tests.harness import writes
from tests.unit.soak.fleets import fleet, status

BROKEN = fleet(db3={})


class Stage(Scene):
    """A fleet that is only looked at: `now` is what is seen, `done` what was done to it."""

    def __init__(self) -> None:
        super().__init__("inventory", "https://192.0.2.10")
        self.__dict__.update(now=fleet(), done=[], pair=self)

    def holders(self) -> list[str]:
        return ["lb1"]


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Any:
    made: Any = Stage()

    def put_back(scene: Any, before: Found) -> None:
        scene.done.append("put back")
        scene.__dict__["now"] = before

    monkeypatch.setattr(found, "look", lambda scene: scene.now)
    monkeypatch.setattr(found, "replica_set", lambda scene: {})
    monkeypatch.setattr(writes, "data_equal", lambda inventory: True)
    monkeypatch.setattr(run, "_load", lambda *_: None)
    monkeypatch.setattr(run, "put_back", put_back)
    monkeypatch.setattr(run, "LOOK_EVERY_S", 0.0)
    return made


def fault(name: str, act: Callable[[Any], None], limit_s: float = 0.01) -> Fault:
    """A fault that does something to the stage, and undoes nothing but says that it had the chance."""

    @contextmanager
    def provoke(scene: Any, host: str) -> Iterator[str]:
        try:
            act(scene)
            yield "seen"
        finally:
            scene.done.append(f"{name} undone")

    return Fault(Kind(name), provoke, limit_s, lasts=False)


def nothing(_: Any) -> None:
    pass


def raises(error: BaseException) -> Callable[[Any], None]:
    def act(_: Any) -> None:
        raise error

    return act


def breaks(scene: Any) -> None:
    scene.__dict__["now"] = BROKEN


@pytest.fixture
def play(stage: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    def played(*faults: Fault, seconds: float = 60, pause_s: float = 0) -> Any:
        monkeypatch.setattr(run, "FAULTS", list(faults))
        steps = [Step(number, one.kind.name, "", pause_s, 0) for number, one in enumerate(faults, 1)]
        said: list[str] = []
        return run.run(stage, run.Plan(1, iter(steps), {}), seconds, said.append), said

    return played


def test_a_line_for_each_fault_and_nothing_to_put_back(play: Any, stage: Any) -> None:
    record, said = play(fault("a", nothing), fault("b", nothing))
    assert [one.split()[3] for one in said] == ["a", "b"] and all("as before after" in one for one in said)
    assert [one.wrong for one in record.faults] == [[], []]
    assert stage.done == ["a undone", "b undone"]
    assert record.differences == [] and record.equal


def test_an_error_in_a_fault_is_reported_and_the_next_one_comes(play: Any, stage: Any) -> None:
    record, said = play(fault("a", raises(AssertionError("x"))), fault("b", nothing))
    assert record.faults[0].wrong == ["1 a: AssertionError: x"] and record.faults[1].wrong == []
    assert "AssertionError: x" in said[0]
    assert stage.done == ["a undone", "b undone"]


def test_a_fleet_that_does_not_recover_ends_it_and_is_put_back(play: Any, stage: Any) -> None:
    record, said = play(fault("a", breaks), fault("b", nothing))
    assert [one.kind for one in record.faults] == ["a"]
    assert record.faults[0].wrong == ["1 a: not as before after 0 s: db3 does not answer"]
    assert "NOT as before" in said[0] and "stopping here" in said[1]
    assert stage.done == ["a undone", "put back"]
    assert "db3 does not answer" in record.differences


def test_ctrl_c_ends_it_with_what_was_seen_and_puts_back(play: Any, stage: Any) -> None:
    def interrupt(scene: Any) -> None:
        breaks(scene)
        raise KeyboardInterrupt

    record, _ = play(fault("a", nothing), fault("b", interrupt), fault("c", nothing))
    assert record.error == "interrupted"
    assert [one.kind for one in record.faults] == ["a", "b"]
    assert stage.done == ["a undone", "b undone", "put back"]


def test_an_error_outside_of_faults_is_recorded_and_the_fleet_put_back(
    play: Any, stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(scene: Any, *_: Any) -> None:
        breaks(scene)
        raise RuntimeError("no load")

    monkeypatch.setattr(run, "_load", load)
    record, _ = play(fault("a", nothing))
    assert record.error == "RuntimeError: no load" and record.faults == []
    assert stage.done == ["put back"]


def test_what_can_not_be_put_back_is_in_the_record(play: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "put_back", lambda *_: raises(AssertionError("db3 answers: not within 180 s"))(None))
    record, _ = play(fault("a", breaks))
    assert "putting back failed, see make status: AssertionError: db3 answers" in record.differences[-1]


def test_no_fault_begins_after_the_time(play: Any) -> None:
    record, _ = play(fault("a", nothing), seconds=1, pause_s=2)
    assert record.faults == []


def test_a_fleet_that_is_not_whole_is_left_alone(play: Any, stage: Any) -> None:
    stage.__dict__["now"] = fleet(app1=status(system="degraded", failed=["x.service"]))
    record, _ = play(fault("a", nothing))
    assert record.error == "the fleet is not whole, and nothing was provoked: app1 is degraded: x.service"
    assert stage.done == []
