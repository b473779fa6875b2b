"""The alarms' definitions against simulated charts: silent in a quiet week, and each raised by what it is for."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.simulation import health
from tests.simulation.health import CRITICAL, WARNING, Alarm, Chart
from tests.simulation.week import DAY, HOUR, STEP, Machine, Week
from tests.tools.coverage import ALARMS
from tests.unit.shared import rendered


def definitions(**own: Any) -> str:
    return rendered(ALARMS, own)


@pytest.fixture(scope="module")
def alarms() -> list[Alarm]:
    return health.read(definitions())


@pytest.fixture(scope="module")
def week(alarms: list[Alarm]) -> tuple[list[Chart], dict[str, set[str]]]:
    """The charts of a quiet week, filled, and what was raised in it."""
    charts = Week(Machine()).charts()
    return charts, raised(alarms, charts, 7)


def again(chart: Chart) -> Chart:
    """The chart from its beginning, to be filled with the same values."""
    history = chart.history
    return Chart(
        chart.id,
        chart.context,
        lambda now: {name: values[int(now // STEP)] for name, values in history.items()},
        chart.host,
        chart.interval,
    )


def raised(alarms: list[Alarm], charts: list[Chart], days: float) -> dict[str, set[str]]:
    """The alarms of so many days, with the charts that raised them."""
    found: dict[str, set[str]] = {}
    for one in health.run(alarms, charts, days * DAY):
        found.setdefault(one.alarm, set()).add(f"{one.host} {one.chart} {one.at / DAY:.2f} d: {one.value:.1f}")
    return found


def test_the_simulation_has_a_chart_for_every_alarm(alarms: list[Alarm]) -> None:
    assert {alarm.on for alarm in alarms} - {chart.context for chart in Week(Machine()).charts()} == set()


def test_a_quiet_week_raises_nothing(week: tuple[list[Chart], dict[str, set[str]]]) -> None:
    charts, found = week
    assert {len(values) for chart in charts for values in chart.history.values()} == {7 * DAY // STEP}
    assert found == {}


LARGE = Machine(16, store_gb=1000, memory_mb=64000, data_gb=230, window=3600, proof=5.5 * HOUR)
SMALL = Machine(4, store_gb=20, data_gb=0.1, proof=0.01 * HOUR)


@pytest.mark.parametrize("machine", [LARGE, SMALL, Machine(4, store_gb=150)])
def test_nor_do_nights_of_other_machines_and_sizes(machine: Machine, alarms: list[Alarm]) -> None:
    assert raised(alarms, Week(machine).charts(), 2.5) == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Niced work counted, the hour's pace on its own, a proof's time counted, the hourly watch: each night an alarm.
        (definitions().replace("user,system,irq", "user,system,nice,irq"), {"phoenix_core_cpu", "phoenix_host_cpu"}),
        (definitions(alerting_disk_used_soon=0), {"phoenix_disk_filling"}),
        (definitions(alerting_backup_hours=24), {"phoenix_backup_late"}),
        (definitions(alerting_metrics_missing_raise=3600), {"phoenix_metrics_missing"}),
    ],
)
def test_the_week_is_not_that_quiet(
    text: str, expected: set[str], alarms: list[Alarm], week: tuple[list[Chart], dict[str, set[str]]]
) -> None:
    """Thresholds that this fleet had, or nearly: the simulation would find them."""
    # The others are as they were, on charts that are as they were: the quiet week has them. Alarms of one chart may
    # read each other.
    contexts = {alarm.on for alarm in health.read(text) if alarm not in alarms}
    assert contexts, "no alarm differs"
    others = [alarm for alarm in health.read(text) if alarm.on in contexts]
    charts = [again(chart) for chart in week[0] if chart.context in contexts]
    assert set(raised(others, charts, 2.5)) == expected


Values = Mapping[str, float]
Trouble = Callable[[float], Values]
START = 1.2 * DAY  # of a trouble: in the second morning, after a day of history


def constant(**values: float) -> Trouble:
    return lambda _: values


TROUBLES: list[tuple[str, int, str, str, Trouble]] = [
    # alarm, status, host and chart, and what that shows from then on; t: seconds since the start
    ("phoenix_service_cpu", WARNING, "app1", "phoenix_cpu.phoenix@3000", constant(cpu=99)),
    ("phoenix_core_cpu", WARNING, "db2", "cpu.cpu0", constant(user=90, system=5)),
    ("phoenix_host_cpu", CRITICAL, "app1", "system.cpu", constant(user=70, system=25)),
    ("phoenix_steal", WARNING, "app1", "system.cpu", constant(user=10, steal=30)),
    ("phoenix_restarts", CRITICAL, "app1", "phoenix_restarts.x", constant(restarts=12)),
    ("phoenix_http_errors", CRITICAL, "lb1", "phoenix_nginx.errors", constant(share=100)),
    ("phoenix_site", CRITICAL, "db2", "phoenix_site.lb1_https", constant(up=0)),
    ("phoenix_instances_missing", CRITICAL, "control1", "phoenix_fleet.capacity", constant(missing=1)),
    ("phoenix_drained", WARNING, "control1", "phoenix_fleet.drained_longest", lambda t: {"longest": t}),
    ("phoenix_autoscaler_maximum", WARNING, "control1", "phoenix_metrics.autoscaler_at_maximum", constant(value=1)),
    (
        "phoenix_autoscaler_data",
        CRITICAL,
        "control1",
        "phoenix_metrics.autoscaler_data_age_seconds",
        lambda t: {"value": t},
    ),
    (
        "phoenix_scaling",
        WARNING,
        "control1",
        "phoenix_metrics.autoscaler_failed_actions_total",
        lambda t: {"value": t // 120},
    ),
    ("phoenix_autoscaler_frozen", WARNING, "control1", "phoenix_metrics.autoscaler_frozen", constant(value=1)),
    ("phoenix_autoscaler_withheld", WARNING, "control1", "phoenix_metrics.autoscaler_withheld", constant(value=2)),
    ("phoenix_demand_creation", WARNING, "control1", "phoenix_metrics.demand_failed_creations", constant(value=3)),
    (
        "phoenix_demand_provider",
        WARNING,
        "control1",
        "phoenix_metrics.demand_provider_away_seconds",
        lambda t: {"value": t},
    ),
    ("phoenix_demand_stray", WARNING, "control1", "phoenix_metrics.demand_stray_hosts", constant(value=1)),
    ("phoenix_demand_leaving", WARNING, "control1", "phoenix_metrics.demand_leaving_seconds", lambda t: {"value": t}),
    (
        "phoenix_demand_stalled",
        WARNING,
        "control1",
        "phoenix_metrics.demand_checked_age_seconds",
        lambda t: {"value": t},
    ),
    ("phoenix_deploy", CRITICAL, "control1", "phoenix_metrics.deploy_last_result", constant(value=2)),
    ("phoenix_deploy_running", WARNING, "control1", "phoenix_metrics.deploy_running", constant(value=1)),
    ("phoenix_drill_failed", WARNING, "control1", "phoenix_metrics.drills_failed", constant(value=1)),
    (
        "phoenix_drill_late",
        WARNING,
        "control1",
        "phoenix_metrics.drills_oldest_success_age_seconds",
        constant(value=46 * DAY),
    ),
    ("phoenix_pipeline", WARNING, "control1", "phoenix_metrics.pipeline_last_result", constant(value=1)),
    (
        "phoenix_process_unplaced",
        WARNING,
        "control1",
        "phoenix_metrics.processes_unplaced_age_seconds",
        lambda t: {"value": t},
    ),
    ("phoenix_pipeline_running", WARNING, "control1", "phoenix_metrics.pipeline_running", constant(value=1)),
    ("phoenix_mongodb_down", CRITICAL, "db2", "phoenix_mongodb.member", constant(up=0, sees_primary=1)),
    ("phoenix_mongodb_primary", CRITICAL, "db2", "phoenix_mongodb.member", constant(up=1, sees_primary=0)),
    ("phoenix_mongodb_lag", WARNING, "db2", "phoenix_mongodb.lag", lambda t: {"lag": t}),
    ("phoenix_mongodb_oplog", WARNING, "db2", "phoenix_mongodb.oplog", constant(window=10)),
    (
        "phoenix_backup_late",
        CRITICAL,
        "control1",
        "phoenix_metrics.backup_newest_good_age_seconds",
        constant(value=27 * HOUR),
    ),
    ("phoenix_backup_result", WARNING, "control1", "phoenix_metrics.backup_last_result", constant(value=2)),
    ("phoenix_backup_window", WARNING, "control1", "phoenix_metrics.backup_window_ratio", constant(value=0.8)),
    (
        "phoenix_backup_offsite",
        WARNING,
        "control1",
        "phoenix_metrics.backup_offsite_newest_age_seconds",
        constant(value=51 * HOUR),
    ),
    (
        "phoenix_backup_logs",
        WARNING,
        "control1",
        "phoenix_metrics.backup_logs_oldest_age_seconds",
        constant(value=51 * HOUR),
    ),
    ("phoenix_oplog_lag", CRITICAL, "control1", "phoenix_metrics.backup_oplog_age_seconds", lambda t: {"value": t}),
    ("phoenix_oplog_gap", CRITICAL, "control1", "phoenix_metrics.backup_oplog_gap_result", constant(value=2)),
    ("phoenix_oplog_proof", CRITICAL, "control1", "phoenix_metrics.backup_chain_result", constant(value=1)),
    ("phoenix_floating_two", CRITICAL, "control1", "phoenix_fleet.floating_1", constant(holders=2)),
    ("phoenix_floating_none", CRITICAL, "control1", "phoenix_fleet.floating_1", constant(holders=0)),
    ("phoenix_keepalived", WARNING, "lb1", "phoenix_floating.keepalived", constant(runs=0)),
    # A log that fills 20 GB within five hours, and one that grows by a few GB a day.
    (
        "phoenix_disk_filling",
        CRITICAL,
        "app1",
        "phoenix_disk.root",
        lambda t: {"used": 15 + t / HOUR, "available": 4 - t / HOUR},
    ),
    (
        "phoenix_disk_filling",
        WARNING,
        "lb1",
        "phoenix_disk.root",
        lambda t: {"used": 14 + t / DAY, "available": 5 - t / DAY},
    ),
    ("phoenix_disk_full", CRITICAL, "lb1", "phoenix_disk.root", constant(used=18.5, available=0.5)),
    ("phoenix_inodes_full", CRITICAL, "app1", "phoenix_inodes.root", constant(used=99, available=1)),
    ("phoenix_read_only", CRITICAL, "db2", "phoenix_read_only.root", constant(read_only=1)),
    ("phoenix_memory", CRITICAL, "db2", "mem.available", constant(avail=100)),
    ("phoenix_memory_pressure", WARNING, "db2", "system.memory_full_pressure_stall_time", constant(time=300)),
    ("phoenix_clock", WARNING, "app1", "system.clock_sync_state", constant(state=0)),
    ("phoenix_certificate", CRITICAL, "control1", "phoenix_certificate.lb1_443", constant(left=5)),
    ("phoenix_certificate_name", CRITICAL, "control1", "phoenix_certificate_name.lb1_443", constant(matches=0)),
    ("phoenix_failed_unit", WARNING, "control1", "phoenix_failed.x", constant(failed=1)),
    ("phoenix_unit_stopped", WARNING, "app1", "phoenix_stopped.x", lambda t: {"stopped": t}),
    ("phoenix_host_silent", CRITICAL, "control1", "phoenix_silent.app1", lambda t: {"silent": t}),
    ("phoenix_collector", WARNING, "lb1", "phoenix_collector.x", lambda t: {"age": t}),
    ("phoenix_metrics_missing", WARNING, "control1", "phoenix_missing.backup", lambda t: {"missing": t}),
    ("phoenix_notify", WARNING, "control1", "phoenix_metrics.notify_waiting_age_seconds", lambda t: {"value": t}),
    ("phoenix_notify_refused", WARNING, "control1", "phoenix_metrics.notify_lost_messages", constant(value=1)),
    ("phoenix_test", WARNING, "control1", "phoenix_metrics.test_alarm", constant(value=1)),
]


def test_every_alarm_is_provoked(alarms: list[Alarm]) -> None:
    assert {alarm.name for alarm in alarms if alarm.warn or alarm.crit} == {trouble[0] for trouble in TROUBLES}


@pytest.mark.parametrize(("alarm", "status", "host", "chart", "trouble"), TROUBLES)
def test_each_alarm_is_raised_by_what_it_is_for_and_clears(
    alarm: str, status: int, host: str, chart: str, trouble: Trouble, alarms: list[Alarm]
) -> None:
    charts = [one for one in Week(Machine()).charts() if one.host == host and one.id in (chart, "system.ram")]
    quiet = next(one for one in charts if one.id == chart)
    end = START + 4 * HOUR
    before: dict[str, float] = dict(quiet.series(0.0))

    def disturbed(now: float) -> Values:
        # What the trouble does not name is as it was.
        return {**dict.fromkeys(before, 0.0), **trouble(now - START)} if START <= now < end else quiet.series(now)

    charts[charts.index(quiet)] = replace(quiet, series=disturbed)
    evaluator = health.Evaluator(alarms, charts)
    now = START - 25 * HOUR
    while now < end + 3 * HOUR:
        evaluator.step(now)
        now += STEP
    found = [one for one in evaluator.raised if one.alarm == alarm]
    assert found and START <= found[0].at < end, evaluator.raised
    assert max(evaluator.watches[alarm, host, chart].worst, 0) == status
    if alarm not in ("phoenix_disk_filling", "phoenix_certificate"):
        assert not evaluator.watches[alarm, host, chart].state.open, "it is over, and the alarm is not"


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("$this > (($status >= $WARNING) ? (50) : (80))", 60.0, False),
        ("($a > 0.01) ? ($b / $a) : (9999)", 0.0, 9999.0),
        ("($a > 0.01 AND $b != nan) ? ($b / $a) : (9999)", 3.0, 2.0),
        ("$nothing != nan AND $nothing < 1", 0.0, False),
        ("$zero / $zero > 0", 0.0, False),
        ("$b * 100 / ($a + ${b})", 2.0, 75.0),
        ("$CLEAR + 10 * $WARNING + 100 * ${CRITICAL}", 0.0, 210.0),
    ],
)
def test_expressions_are_netdatas(text: str, value: float, expected: float) -> None:
    known = {"this": value, "status": 0, "a": value, "b": 6.0, "nothing": math.nan, "zero": 0.0}
    assert eval(health.compiled(text), {"value": known.__getitem__, "divide": health.divide}) == expected


def test_a_lookup_is_of_its_window() -> None:
    values = iter([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    chart = Chart("c", "c", lambda _: {"a": next(values), "b": 10.0}, interval=60)
    for step in range(6):
        chart.advance(step * 60.0)
    assert chart.reduce(health.Lookup.read("average -2m unaligned of a")) == 5.5
    assert chart.reduce(health.Lookup.read("min -2m at -3m unaligned of a,b")) == 12.0
    assert math.isnan(chart.reduce(health.Lookup.read("max -2m at -10m unaligned of a")))
    with pytest.raises(ValueError, match="median"):
        health.Lookup.read("median -2m")


def test_an_alarm_that_flaps_is_one_incident() -> None:
    delay = "down 120s multiplier 2 max 600s"
    text = f" template: x\n on: c\n calc: $a\n units: u\n every: 60s\n warn: $this > 1\n delay: {delay}\n"
    wave = [2, 0, 2, 0, 0, 2] + [0] * 20 + [2]
    chart = Chart("c", "c", lambda now: {"a": float(wave[int(now // 60)])}, interval=60)
    assert [one.at for one in health.run(health.read(text), [chart], 60 * len(wave))] == [0.0, 60 * 26]


def test_the_evaluator_knows_all_that_the_definitions_use() -> None:
    assert len(health.read(definitions())) == len(re.findall(r"^ *template:", definitions(), re.MULTILINE))
    with pytest.raises(ValueError, match="options"):
        health.read(" template: x\n on: c\n options: no-clear\n every: 1s\n")
