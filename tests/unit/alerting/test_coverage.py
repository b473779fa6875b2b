"""Everything that runs or is measured has an alarm, or a reason for having none; docs/coverage.md shows which."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tools import coverage
from tests.tools.coverage import Alarms, Undecided, Unit
from tests.unit.shared import read_yaml, rendered


@pytest.fixture(scope="module")
def alarms() -> Alarms:
    return Alarms.read(rendered(coverage.ALARMS))


@pytest.fixture
def declared() -> dict[str, Any]:
    return copy.deepcopy(dict(read_yaml(coverage.DECLARED)))


def test_everything_has_an_alarm_and_the_document_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert coverage.main(["--check"]) == 0, capsys.readouterr().err


def problems(declared: dict[str, Any], alarms: Alarms) -> str:
    with pytest.raises(Undecided) as found:
        coverage.document(declared, alarms)
    return str(found.value)


SERVICE = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=always\n"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "new.service",
            SERVICE,
            [
                "roles/x/templates/new.service.j2: no alarm when it fails. Let netdata_units",
                "no alarm when it hangs. Give it WatchdogSec=",
                "no alarm when it is stopped, or never starts. Enable it",
                "under units, `new.service: {stalls: ALARM}` (or 'none: why')",
            ],
        ),
        ("phoenix-new.service", f"{SERVICE}WatchdogSec=30s\n[Install]\n", []),
        (
            "phoenix-new.service",
            "[Service]\nType=oneshot\n[Install]\n",
            ["no alarm when it hangs. Give it TimeoutStartSec="],
        ),
        ("phoenix-new.service", "[Service]\nType=oneshot\nTimeoutStartSec=infinity\n[Install]\n", ["when it hangs"]),
        ("phoenix-new.service", "[Service]\nType=oneshot\nTimeoutStartSec=5min\n", ["when it is stopped"]),
        (
            "phoenix-new.service",
            "[Service]\nType=oneshot\nTimeoutStartSec=5min\nSuccessExitStatus=1\n[Install]\n",
            ["fails"],
        ),
        ("new.timer", "[Timer]\n[Install]\n", ["when it is stopped, or never starts"]),
        ("phoenix-new.timer", "[Timer]\n[Install]\n", []),
    ],
)
def test_a_new_unit_needs_an_alarm_for_each_way_to_break(
    name: str, text: str, expected: list[str], declared: dict[str, Any], alarms: Alarms, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = coverage.units()
    monkeypatch.setattr(coverage, "units", lambda: [*known, Unit(name, Path("roles/x/templates") / f"{name}.j2", text)])
    if not expected:
        assert f"| `{name}` | x |" in coverage.document(declared, alarms)
        return
    found = problems(declared, alarms)
    assert found.count("\n") + 1 == max(1, len(expected) - 1), found
    assert [part for part in expected if part not in found] == []
    declared["units"][name] = dict.fromkeys(coverage.WAYS, "phoenix_failed_unit")
    assert f"| `{name}` | x |" in coverage.document(declared, alarms)


def test_a_timer_covers_the_service_that_it_starts(
    declared: dict[str, Any], alarms: Alarms, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = coverage.units()
    oneshot = Unit("phoenix-new.service", Path("roles/x/files/new"), "[Service]\nType=oneshot\nTimeoutStartSec=5min\n")
    timer = Unit("phoenix-new.timer", Path("roles/x/files/new"), "[Timer]\n[Install]\n")
    monkeypatch.setattr(coverage, "units", lambda: [*known, oneshot, timer])
    assert "`phoenix_failed_unit` | as phoenix-new.timer |" in coverage.document(declared, alarms)


def test_a_new_gauge_or_chart_needs_an_alarm(
    declared: dict[str, Any], alarms: Alarms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coverage, "shell_metrics", lambda: {"phoenix_pair_masters": "x"})
    charts = coverage.charts()
    monkeypatch.setattr(coverage, "charts", lambda: {**charts, "phoenix.new": "New"})
    found = problems(declared, alarms)
    assert "phoenix_pair_masters (shell) has no alarm: add one `on: phoenix.pair_masters` to roles/alerting" in found
    assert "the chart phoenix.new (src/phoenix/monitoring) has no alarm: add one `on: phoenix.new`" in found
    declared["metrics"]["phoenix_pair_masters"] = "none: a plot"
    declared["charts"]["phoenix.new"] = "phoenix_site"
    assert "| `phoenix.new` | New | `phoenix_site` |" in coverage.document(declared, alarms)


def test_a_module_declares_the_gauges_that_it_writes(alarms: Alarms) -> None:
    import ast  # noqa: PLC0415 - of this test alone

    tree = ast.parse('exposition({"phoenix_deploy_running": 1, "phoenix_deploy_new": 2})')
    with pytest.raises(Undecided, match=r"src/phoenix/state/deploys\.py writes phoenix_deploy_new: add the meaning"):
        coverage.gauges_of("phoenix.state.deploys", tree, alarms)
    with pytest.raises(Undecided, match=r"src/phoenix/state/lock\.py writes metrics: declare them there, as GAUGES"):
        coverage.gauges_of("phoenix.state.lock", tree, alarms)
    assert {name for name, _ in coverage.writers()} >= {"phoenix.state.deploys", "phoenix.autoscaler.metrics"}


Change = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda d: d["units"].pop("ssh.service"), "roles' tasks name ssh.service, a unit of the distribution: add"),
        (lambda d: d["units"].update({"gone.service": {}}), "units: gone.service is written by no role: remove it"),
        (lambda d: d["metrics"].update({"phoenix_gone": "none: x"}), "phoenix_gone is written by nothing: remove it"),
        (lambda d: d["charts"].update({"phoenix.gone": "none: x"}), "phoenix.gone is filled by nothing: remove it"),
        (lambda d: d["dependencies"].update({"DNS": "phoenix_nothing"}), "phoenix_nothing is no alarm of"),
        (
            lambda d: d["dependencies"].update({"DNS": "somebody notices"}),
            "names no alarm: name one, or write 'none: ' and why",
        ),
    ],
)
def test_a_wrong_declaration_is_refused(
    change: Change, expected: str, declared: dict[str, Any], alarms: Alarms
) -> None:
    change(declared)
    assert expected in problems(declared, alarms)


def test_an_alarm_that_covers_nothing_is_refused(declared: dict[str, Any], alarms: Alarms) -> None:
    more = Alarms(alarms.raised | {"phoenix_idle"}, alarms.on)
    assert "no unit, metric, chart or dependency has phoenix_idle" in problems(declared, more)
