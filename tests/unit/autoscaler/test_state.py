"""What the daemon keeps."""

import json
from pathlib import Path

from phoenix.autoscaler import state
from phoenix.autoscaler.policy import Decision
from phoenix.state import lock as fleet_lock


def decision(action: str = "hold", count: int = 2, cause: str = "the capacity fits") -> Decision:
    return Decision(action, count, count, cause, 5.0, 5.0, False, cause, count)  # type: ignore[arg-type]


def test_only_the_lock_freezes_it(tmp_path: Path) -> None:
    lock = state.FleetLock(tmp_path)
    assert lock.reason() == ""
    token, _ = fleet_lock.acquire(tmp_path, "ann", "deploy", 60)
    assert lock.reason().startswith("frozen: ann holds the lock for deploy since ")
    fleet_lock.release(tmp_path, token)
    assert lock.reason() == ""
    (tmp_path / "lock").write_text("rubbish")
    assert lock.reason() == ""


def test_keeps_what_differs_and_counts_what_does_not(tmp_path: Path) -> None:
    kept = state.Decisions(tmp_path / "d.jsonl")
    assert kept.add(decision(), 2)
    assert not kept.add(decision(), 2)
    assert kept.add(decision("out", 3, "more"), 2, data_age=0.3)
    assert kept.add(decision("out", 3, "more"), 2)  # an action is never a mere repetition
    assert [one["action"] for one in kept.last(10)] == ["hold", "out", "out"]
    assert kept.last(3)[0]["repeats"] == 1
    lines = [json.loads(line) for line in (tmp_path / "d.jsonl").read_text().splitlines()]
    assert lines[1]["data_age"] == 0.3
    assert lines[1]["capacity"] == 2
    kept.flush()
    assert len(state.Decisions(tmp_path / "d.jsonl").last(10)) == 3


def test_keeps_a_thousand(tmp_path: Path) -> None:
    kept = state.Decisions(tmp_path / "d.jsonl")
    for number in range(2 * state.KEPT + 10):
        kept.add(decision("out", number), 2)
    assert len(kept.last(10**6)) == state.KEPT
    assert len((tmp_path / "d.jsonl").read_text().splitlines()) <= 2 * state.KEPT


def test_a_corrupt_history_is_moved_aside(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"a": 1}\nrubbish\n')
    assert state.Decisions(tmp_path / "d.jsonl").last(5) == []
    assert (tmp_path / "d.corrupt").exists()


def test_a_full_disk_costs_only_the_file(tmp_path: Path) -> None:
    gone = tmp_path / "absent"
    assert not state.write(gone / "x", "text")
    assert state.Decisions(gone / "d.jsonl").add(decision(), 2)
    assert not state.write_status(gone / "status.json", {})
