"""What a dead play left running on a host ends when the next one comes to it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from phoenix.common import systemd
from phoenix.instances import cli, drain, units
from phoenix.state import lock, turn


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(turn, "FOLDER", tmp_path / "turn")
    return tmp_path


def token(folder: Path) -> str:
    """Take the lock, and return its token, as the next play does after one that died."""
    found, _ = lock.acquire(folder, "ann", "scale", 0)
    return found


def test_each_lock_has_a_higher_number_whatever_the_clock_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = token(folder)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    second = token(folder)
    (folder / "lock.number").write_text("?")  # a damaged record
    monkeypatch.undo()
    assert turn.number(first) < turn.number(second) < turn.number(token(folder)) + 2


def test_a_late_command_of_an_older_lock_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = token(folder), token(folder)
    turn.enter(new)
    with pytest.raises(turn.Superseded):
        turn.enter(old)
    assert cli.main(["only", "--lock", old, "3000"]) == turn.LOST
    assert "Another play has taken the fleet's lock since" in capsys.readouterr().err


def test_a_drain_that_outlived_its_play_stops_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = token(folder), token(folder)
    turn.enter(old)
    # During the drain the next play comes to the host.
    monkeypatch.setattr(drain, "wait", lambda ports, timeout: turn.enter(new))
    monkeypatch.setattr(systemd, "systemctl", lambda *words: pytest.fail("it was stopped"))
    with pytest.raises(turn.Superseded):
        units.stop([3001], 60, old)


def test_the_next_play_waits_for_what_is_being_changed(folder: Path) -> None:
    old, new = token(folder), token(folder)
    turn.enter(old)
    order: list[str] = []

    def come() -> None:
        turn.enter(new)
        order.append("entered")

    with turn.held(old):
        waiting = threading.Thread(target=come)
        waiting.start()
        waiting.join(0.2)
        order.append("changed")
    waiting.join(10)
    assert order == ["changed", "entered"]


def test_by_hand_no_lock_is_needed(folder: Path) -> None:
    turn.enter("")
    with turn.held(""):
        pass
    assert not (folder / "turn").exists()
