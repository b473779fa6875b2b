"""A recording of the fleet's charts: what is kept of Netdata's answers, and that its replay raises what it holds."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

import pytest

from tests.harness.remote import charts_history
from tests.simulation import health, recorded
from tests.tools.coverage import ALARMS
from tests.unit.shared import TOP, rendered

NOW = 1_000_009.0
CONTEXTS = {"phoenix.service_cpu", "phoenix.site"}


def netdata(path: str) -> Any:
    """Its answers, the newest row first; a chart that is filled every minute has fewer rows."""
    if path == "/api/v1/info":
        return {"mirrored_hosts_status": [{"hostname": "app1", "guid": "g"}]}
    if path == "/host/g/api/v1/charts":
        contexts = {"cpu": "phoenix.service_cpu", "site": "phoenix.site", "other": "system.load"}
        return {"charts": {name: {"id": name, "context": context} for name, context in contexts.items()}}
    assert path.startswith("/host/g/api/v1/data?chart=")
    assert "after=999930&before=999990&points=6&group=average&format=json" in path
    if "chart=cpu&" in path:
        rows = [[999990, 20.0], [999980, 95.5], [999970, None], [999960, 94.0], [999950, 93.0], [999940, 10.0]]
        return {"labels": ["time", "cpu"], "data": rows}
    return {"labels": ["time", "up", "never"], "data": [[999990, 1.0, None], [999930, 0.0, None]]}


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> recorded.Recording:
    monkeypatch.setattr(charts_history, "ask", netdata)
    text = io.StringIO()
    csv.writer(text).writerows(charts_history.rows(60, 10, CONTEXTS, NOW))
    return recorded.read(text.getvalue().splitlines())


def test_a_dimension_has_its_last_value_until_the_next(recording: recorded.Recording) -> None:
    assert set(recording) == {("app1", "cpu", "phoenix.service_cpu"), ("app1", "site", "phoenix.site")}
    assert recording["app1", "cpu", "phoenix.service_cpu"] == {"cpu": [10.0, 93.0, 94.0, 94.0, 95.5, 20.0]}
    site = recording["app1", "site", "phoenix.site"]
    assert site["up"] == [0.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    assert all(math.isnan(value) for value in site["never"])


def test_a_replay_raises_what_was_recorded(recording: recorded.Recording) -> None:
    alarms = health.read(rendered(ALARMS))
    found = recorded.replay(recording, alarms)
    assert ("phoenix_service_cpu", 10.0) in [(one.alarm, one.at) for one in found]
    assert "phoenix_site" in {one.alarm for one in found}
    quiet = {key: {name: values[-1:] * 6 for name, values in one.items()} for key, one in recording.items()}
    assert recorded.replay(quiet, alarms) == []


def test_a_calm_fleet_that_takes_and_verifies_a_dump_raises_nothing_else() -> None:
    """Recorded on the lab fleet, whose last run of the pipeline had failed: tests/fixtures/recorded."""
    recording = recorded.load(TOP / "tests" / "fixtures" / "recorded" / "backup.csv.gz")
    alarms = health.read(rendered(ALARMS))
    assert [one.alarm for one in recorded.replay(recording, alarms)] == ["phoenix_pipeline"]
    contexts = {context for _, _, context in recording}
    # A container has no charts of the machine, and what is off has none either.
    assert len([alarm for alarm in alarms if alarm.on in contexts]) > len(alarms) / 2
    assert {"db1", "db2", "db3", "control1", "lb1", "lb2", "app1"} <= {host for host, _, _ in recording}
    age = recording[
        "control1", "phoenix_metrics.backup_newest_good_age_seconds", "phoenix.backup_newest_good_age_seconds"
    ]
    assert min(age["value"]) < age["value"][0], "a dump was verified meanwhile"
