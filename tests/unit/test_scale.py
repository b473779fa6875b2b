"""Which instances `phoenixctl instances start` and `only` start and stop."""

from types import ModuleType

import pytest

from phoenix.instances import scale as program


@pytest.fixture(scope="module")
def scale() -> ModuleType:
    return program


def test_starts_what_does_not_run_or_would_not_after_a_reboot(scale: ModuleType) -> None:
    instance = scale.instances.Instance
    found = [
        instance(3000, True, True, "r", "/opt/phoenix/releases/1"),
        instance(3001, True, False, "r", "/opt/phoenix/releases/1"),
        instance(3002, False, True, "r", "/opt/phoenix/releases/1"),
    ]
    assert scale.missing([3000, 3001, 3002, 3003], found) == [3001, 3002, 3003]


def test_stops_what_is_not_wanted(scale: ModuleType) -> None:
    instance = scale.instances.Instance
    found = [instance(3000, True, True, "r", "x"), instance(3001, False, True, ""), instance(3002, False, False, "r")]
    assert scale.surplus([3000], found) == [3001]
    assert scale.surplus([], found) == [3000, 3001]


def test_options_may_come_before_the_ports(
    scale: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scale.instances, "find", list)
    assert scale.main(["start", "--timeout", "5", "--check", "3000", "3001"]) == 0
    assert capsys.readouterr().out == "changed: start 3000\nchanged: start 3001\n"
