"""What control does by itself about hosts that were away and roll-outs that were cut: when, and what is recorded."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from phoenix.state import away, deploys, desired, lock, reconcile
from phoenix.state.reconcile import GRACE_S, LONGEST_PAUSE_S, Memory, Seen

CUT = deploys.Deploy(7, "deploy", "ann", "b", "a", round(time.time(), 1))
NEW = Memory()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Control's records: release a, and a history whose newest deploy, of b, has no result."""
    monkeypatch.setattr(deploys.read, "__defaults__", (tmp_path / "deploys.jsonl",))
    monkeypatch.setattr(deploys.write, "__defaults__", (tmp_path / "deploys.jsonl",))
    monkeypatch.setattr(deploys.write_metrics, "__defaults__", (tmp_path / "deploy.prom",))
    desired.record("release", "a", tmp_path)
    deploys.write([deploys.Deploy(6, "deploy", "ann", "a", "", 0.0, "good"), CUT])
    return tmp_path


def test_nothing_is_done_before_it_was_seen_for_a_while() -> None:
    decision, memory = reconcile.decide(Seen(returned=("app2",)), NEW, 100.0)
    assert not decision.act and memory.since == {"host app2": 100.0}
    decision, memory = reconcile.decide(Seen(returned=("app2",)), memory, 100.0 + GRACE_S - 1)
    assert not decision.act and not decision.failing
    decision, memory = reconcile.decide(Seen(returned=("app2", "lb1")), memory, 100.0 + GRACE_S)
    assert decision.act, "one that is due takes the others with it"


def test_what_comes_and_goes_is_not_seen_for_a_while() -> None:
    _, memory = reconcile.decide(Seen(returned=("app2",)), NEW, 100.0)
    _, memory = reconcile.decide(Seen(), memory, 130.0)
    assert not reconcile.decide(Seen(returned=("app2",)), memory, 160.0)[0].act


def test_nothing_is_done_while_a_play_holds_the_lock_and_what_was_seen_is_kept() -> None:
    memory = Memory({"host app2": 1.0})
    decision, kept = reconcile.decide(Seen(held=True), memory, 1000.0)
    assert not decision.act and not decision.failing and kept == memory


def test_after_a_failure_the_pause_doubles_and_the_unit_stays_failed() -> None:
    seen, memory, now, pauses = Seen(returned=("app2",)), Memory({"host app2": 0.0}), GRACE_S, []
    for _ in range(9):
        decision, memory = reconcile.decide(seen, memory, now)
        assert decision.act
        memory = reconcile.after(memory, False, now)
        pauses.append(memory.not_before - now)
        waiting, memory = reconcile.decide(seen, memory, now + pauses[-1] - 1)
        assert not waiting.act and waiting.failing
        now = memory.not_before
    assert pauses[:3] == [60.0, 120.0, 240.0] and pauses[-1] == LONGEST_PAUSE_S
    assert reconcile.after(memory, True, now) == NEW
    assert reconcile.decide(Seen(), memory, now)[1] == NEW, "and when there is nothing to do any more"


def test_what_was_tried_in_vain_holds_up_nothing_that_is_seen_later() -> None:
    memory = reconcile.after(Memory({"host app2": 0.0}, failures=5), False, 100.0)
    both = Seen(CUT, ("app2",))
    decision, memory = reconcile.decide(both, memory, 110.0)
    assert not decision.act and decision.failing
    decision, memory = reconcile.decide(both, memory, 110.0 + GRACE_S)
    assert decision.act and memory.not_before > 110.0 + GRACE_S
    memory = reconcile.after(memory, False, 160.0)
    assert not reconcile.decide(both, memory, 170.0)[0].act


def test_a_roll_out_is_not_taken_along_before_its_time() -> None:
    """A host that is due takes other hosts with it; a deploy that was interrupted just now is the operator's."""
    decision, _ = reconcile.decide(Seen(CUT, ("app2", "lb2")), Memory({"host app2": 0.0}), GRACE_S)
    assert decision.act == Seen(returned=("app2", "lb2"))
    decision, _ = reconcile.decide(Seen(CUT, ("app2",)), Memory({"roll-out 7": 0.0}), GRACE_S)
    assert decision.act == Seen(CUT, ("app2",))


def test_an_old_roll_out_without_a_result_is_history() -> None:
    assert reconcile.interrupted([CUT], CUT.began + 60) == CUT
    assert reconcile.interrupted([CUT], CUT.began + reconcile.OLD_S) is None
    assert reconcile.interrupted([replace(CUT, result="good")], CUT.began + 60) is None
    assert reconcile.interrupted([], 0.0) is None


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (Seen(returned=("app2",)), [["reconcile"]]),
        (Seen(CUT), [["reconcile"]]),
        (Seen(replace(CUT, what="roll")), [["reconcile"]]),
        # It leads away from the recorded release, to which instances must not be brought back.
        (Seen(replace(CUT, what="rollback", version="a")), [["rollback", "-e", "phoenix_version=a"]]),
        (Seen(replace(CUT, what="rollback"), ("lb2",)), [["rollback", "-e", "phoenix_version=b"], ["reconcile"]]),
    ],
)
def test_the_plays(seen: Seen, expected: list[list[str]]) -> None:
    assert reconcile.plays(seen) == expected


def test_hosts_that_are_away_are_asked_and_those_that_left_the_inventory_are_not(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        hosts: dict[str, Sequence[str | int]] = {
            "app2": ["127.0.0.1", server.getsockname()[1]],
            "app3": ["127.0.0.1", closed.getsockname()[1]],
            "app1": ["127.0.0.1", server.getsockname()[1]],
        }
        away.add(["app2", "app3", "gone"], "did not answer", folder)
        assert reconcile.look(hosts, folder) == Seen(CUT, ("app2",))
        token, _ = lock.acquire(folder, "ann", "deploy", 60)
        assert reconcile.look(hosts, folder) == Seen(held=True)
        lock.release(folder, token)
    assert list(away.read(folder)) == ["app2", "app3"], "what left the inventory is forgotten"
    deploys.write([*deploys.read()[:1], replace(CUT, result="failed")])
    assert reconcile.look({}, folder) == Seen()


@pytest.mark.parametrize(
    ("good", "recorded", "result"), [(True, "a", "rolled back"), (True, "b", "good"), (False, "a", "failed")]
)
def test_a_roll_out_that_was_cut_gets_its_result(folder: Path, good: bool, recorded: str, result: str) -> None:
    """With b recorded, it was cut after all that mattered."""
    desired.record("release", recorded, folder)
    assert reconcile.act(Seen(CUT), lambda _: good, folder) is good
    newest = deploys.read()[-1]
    assert newest.result == result and "interrupted" in newest.reason
    assert reconcile.interrupted(deploys.read(), time.time()) is None, "it is tried once, and an operator has the rest"


def test_a_roll_that_was_cut_is_put_back(folder: Path) -> None:
    """The recorded release is its version from the beginning."""
    cut = replace(CUT, what="roll", version="a")
    deploys.write([cut])
    assert reconcile.act(Seen(cut), lambda _: True, folder)
    assert deploys.read()[-1].result == "rolled back"


def test_a_play_that_waits_for_the_lock_of_another_gives_no_result(folder: Path) -> None:
    """Somebody was faster: what was cut is theirs now."""
    lock.acquire(folder, "ann", "deploy", 60)
    assert not reconcile.act(Seen(CUT), lambda _: False, folder)
    assert reconcile.interrupted(deploys.read(), CUT.began + 1) == CUT


def test_whether_hosts_were_brought_back_is_what_the_record_says(folder: Path) -> None:
    """The play takes from it those that it brought up to date; it may fail for another host all the same."""
    away.add(["app2", "lb2", "app3"], "did not answer", folder)

    def play(_: Sequence[str]) -> bool:
        away.remove(["app2"], folder)
        return False

    deploys.write([])
    assert not reconcile.act(Seen(returned=("app2", "lb2")), play, folder)
    assert list(away.read(folder)) == ["app3", "lb2"]
    assert reconcile.act(Seen(returned=("app2",)), play, folder)


@pytest.mark.parametrize(("result", "good"), [("good", True), ("failed", False)])
def test_a_roll_out_is_put_back_although_a_host_could_not_be(folder: Path, result: str, good: bool) -> None:
    def play(_: Sequence[str]) -> bool:
        deploys.write([*deploys.read(), deploys.Deploy(8, "roll", "x", "a", "a", time.time(), result)])
        return False

    assert reconcile.act(Seen(CUT), play, folder) is good
    assert deploys.read()[1].result == ("rolled back" if good else "failed")


def test_the_command_remembers_and_reports(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(reconcile, "CONFIGURATION", folder / "reconcile.json")
    monkeypatch.setattr(reconcile, "MEMORY", folder / "memory.json")
    (folder / "reconcile.json").write_text(json.dumps({"hosts": {}}))
    monkeypatch.setattr(reconcile, "look", lambda _: Seen(CUT))
    results = iter([False, True])
    monkeypatch.setattr(reconcile, "act", lambda _: next(results))
    clock = iter([0.0, 50.0, 50.0, 60.0, 200.0, 200.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    assert [reconcile.main([]) for _ in range(4)] == [0, 1, 1, 0]
    assert next(results, None) is None
    out, err = capsys.readouterr()
    assert "roll-out 7: seen for less than 45 s" in out and "roll-out 7: the next attempt follows in 50 s" in out
    assert "did not help" in err and "done" in err


def test_the_records_in_words_and_a_damaged_one(folder: Path, capsys: Any) -> None:
    options = ["--folder", str(folder)]
    assert desired.main([*options, "away", "--reason", "did not answer", "app2", "lb2"]) == 0
    assert desired.main([*options, "back", "app2", "app1"]) == 0
    assert desired.main([*options, "back", "app1"]) == 0
    assert desired.main([*options, "show"]) == 0
    assert desired.main([*options, "show", "--json"]) == 0
    changed, unchanged, *shown, state = capsys.readouterr().out.splitlines()
    assert (json.loads(changed), json.loads(unchanged)) == ({"changed": True}, {"changed": False})
    assert "missed a change: lb2: did not answer" in shown and json.loads(state)["away"] == {"lb2": "did not answer"}
    (folder / away.NAME).write_text('["lb2"]')
    assert away.read(folder) == {}
    away.add(["lb1"], "again", folder)
    assert list(away.read(folder)) == ["lb1"]
