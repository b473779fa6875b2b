"""Which instances `phoenixctl instances start` and `only` start and stop."""

import json

import pytest

from phoenix.instances import cli, units
from phoenix.instances.model import Instance, missing, surplus


def test_starts_what_does_not_run_or_would_not_after_a_reboot() -> None:
    found = [
        Instance(3000, True, True, "r", "/opt/phoenix/releases/1", "c"),
        Instance(3001, True, False, "r", "/opt/phoenix/releases/1", "c"),
        Instance(3002, False, True, "r", "/opt/phoenix/releases/1", "c"),
        Instance(3004, True, True, "r", "/opt/phoenix/releases/1", ""),
    ]
    assert missing([3000, 3001, 3002, 3003, 3004], found) == [3001, 3002, 3003, 3004]


def test_stops_what_is_not_wanted() -> None:
    found = [Instance(3000, True, True, "r", "x"), Instance(3001, False, True, ""), Instance(3002, False, False, "r")]
    assert surplus([3000], found) == [3001]
    assert surplus([], found) == [3000, 3001]


def test_options_may_come_before_the_ports(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(units, "find", list)
    assert cli.main(["start", "--timeout", "5", "--check", "3000", "3001"]) == 0
    seen = json.loads(capsys.readouterr().out)
    assert seen == {"changed": [{"action": "start", "port": 3000}, {"action": "start", "port": 3001}]}
