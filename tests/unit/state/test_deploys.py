"""The record of deploys."""

import json
import time
from pathlib import Path

import pytest

from phoenix.common import prometheus
from phoenix.state import deploys


def history(*entries: tuple[str, str, str, str]) -> list[deploys.Deploy]:
    return [
        deploys.Deploy(number, what, "ann", version, before, 0.0, result)
        for number, (what, version, before, result) in enumerate(entries)
    ]


@pytest.mark.parametrize(
    ("entries", "previous"),
    [
        ([], ""),
        ([("deploy", "b", "a", "good")], "a"),
        ([("deploy", "b", "", "good")], ""),
        ([("deploy", "b", "a", "good"), ("deploy", "c", "b", "rolled back")], "a"),
        ([("deploy", "b", "a", "good"), ("deploy", "c", "b", "")], "a"),
        ([("deploy", "b", "a", "good"), ("deploy", "c", "b", "good")], "b"),
        # What was rolled back from is no target of the next one.
        ([("deploy", "b", "a", "good"), ("deploy", "c", "b", "good"), ("rollback", "b", "c", "good")], "a"),
        ([("deploy", "b", "a", "good"), ("rollback", "a", "b", "good")], ""),
        ([("deploy", "b", "a", "good"), ("roll", "b", "b", "good")], "a"),
    ],
)
def test_the_release_before(entries: list[tuple[str, str, str, str]], previous: str) -> None:
    assert deploys.previous(history(*entries)) == previous


def test_a_deploy_from_start_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record, metrics = tmp_path / "deploys.jsonl", tmp_path / "metrics" / "deploy.prom"
    monkeypatch.setattr(deploys, "read", lambda path=record, read=deploys.read: read(path))
    monkeypatch.setattr(deploys, "write", lambda lines, path=record, write=deploys.write: write(lines, path))
    monkeypatch.setattr(deploys, "write_metrics", lambda text, path=metrics, w=deploys.write_metrics: w(text, path))
    deploys.main(["begin", "--what", "deploy", "--who", "ann", "--version", "b", "--previous", "a"])
    assert capsys.readouterr().out == "1\n"
    assert "\nphoenix_deploy_running 1\n" in metrics.read_text()
    assert "phoenix_deploy_last" not in metrics.read_text(), "none has ended yet"
    deploys.main(["show"])
    assert "not ended" in capsys.readouterr().out
    monkeypatch.setattr(deploys, "mark", lambda *given, mark=deploys.mark: mark(*given, record))
    for at, phase in ((10.0, "canary"), (14.0, "steps"), (16.5, "back")):
        monkeypatch.setattr(time, "time", lambda at=at: at)
        deploys.main(["mark", "--number", "1", "--phase", phase])
    monkeypatch.setattr(time, "time", lambda: 20.0)
    deploys.main(["end", "--number", "1", "--result", "rolled back", "--reason", "it hung"])
    deploys.main(["show", "--json"])
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["result"], one["reason"], one["who"]) == ("rolled back", "it hung", "ann")
    assert one["times"] == {"canary": 4.0, "steps": 2.5, "back": 3.5}
    assert "marks" not in record.read_text(), "earlier versions could not read the line"
    assert "\nphoenix_deploy_last_result 1\n" in metrics.read_text()
    assert "\nphoenix_deploy_running 0\n" in metrics.read_text()
    with record.open("a") as file:
        file.write('{"half a li')
    deploys.main(["begin", "--what", "deploy", "--who", "ann", "--version", "c", "--previous", "a"])
    assert capsys.readouterr().out == "2\n"
    assert deploys.main(["previous"]) == 1
    capsys.readouterr()
    deploys.main(["begin", "--what", "rollback", "--who", "ann", "--version", "a", "--previous", "a"])
    deploys.main(["show"])
    first, second, third, fourth = capsys.readouterr().out.splitlines()
    assert (first, "rolled back" in second) == ("3", True)
    assert "interrupted" in third and "not ended" in fourth, "the second one was cut, as the third could begin"


def test_a_phase_that_comes_again_is_added_up() -> None:
    assert deploys.durations([("steps", 1.0), ("processes", 2.0), ("steps", 5.0)], 9.0) == {
        "steps": 5.0,
        "processes": 3.0,
    }
    assert deploys.durations([], 9.0) == {}


@pytest.mark.parametrize(
    ("entries", "running", "last"),
    [
        ([], 0, None),
        ([("deploy", "b", "a", "")], 1, None),
        ([("deploy", "b", "a", "failed"), ("deploy", "c", "a", "")], 1, 2),
        ([("deploy", "b", "a", "good"), ("deploy", "c", "a", "rolled back")], 0, 1),
        # It was killed, and another brought the fleet to one release.
        ([("deploy", "b", "a", ""), ("deploy", "b", "a", "good")], 0, 0),
    ],
)
def test_a_deploy_that_was_killed_stays_in_the_metrics(
    entries: list[tuple[str, str, str, str]], running: int, last: int | None
) -> None:
    gauges = prometheus.read(deploys.metrics(history(*entries)))
    assert gauges["phoenix_deploy_running"] == running
    assert gauges.get("phoenix_deploy_last_result") == last


def test_a_release_command_is_recorded_with_its_deploy_and_for_its_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = tmp_path / "deploys.jsonl"
    monkeypatch.setattr(deploys, "read", lambda path=record, read=deploys.read: read(path))
    monkeypatch.setattr(deploys, "write", lambda lines, path=record, write=deploys.write: write(lines, path))
    monkeypatch.setattr(deploys, "write_metrics", lambda text: None)
    deploys.main(["begin", "--what", "deploy", "--who", "ann", "--version", "b", "--previous", "a"])
    assert "prepared" not in record.read_text(), "earlier versions could not read the line"
    deploys.main(["prepare", "--number", "1"])
    deploys.main(["end", "--number", "1", "--result", "rolled back", "--reason", "it hung"])
    capsys.readouterr()
    for version in ("a", "b"):
        deploys.main(["prepared", "--version", version])
    assert capsys.readouterr().out == "no\nyes\n"
    deploys.main(["show"])
    assert "release command run: it hung" in capsys.readouterr().out
