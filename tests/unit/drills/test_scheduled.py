"""Drills on the running fleet: when one is refused, what is kept of it, and what each does."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phoenix.alerting import netdata
from phoenix.common import prometheus
from phoenix.drills import acts, cli, record
from phoenix.state import lock
from tests.unit.backup.builders import DAY, dump

SETTINGS = {"url": "https://www.example.org", "hosts": ["control1", "app1"], "drills": ["alarm", "balancer"]}
QUIET: dict[str, dict[str, dict[str, str]] | None] = {"control1": {}, "app1": {}}


def event(alarm: str, status: str = "WARNING") -> dict[str, str]:
    return {"host": "app1", "alarm": alarm, "status": status}


class Fleet:
    """What a drill finds: open alarms, and acts that are only counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.alarms, self.acted, self.held = dict(QUIET), list[str](), list[bool]()
        self.error: Exception | None = None
        self.folder = folder
        (folder / "metrics").mkdir()
        monkeypatch.setattr(lock, "FOLDER", folder)
        monkeypatch.setattr(lock.holder, "__defaults__", (folder,))
        monkeypatch.setattr(record, "FILE", folder / "drills.json")
        monkeypatch.setattr(record.read, "__defaults__", (folder / "drills.json",))
        monkeypatch.setattr(record, "METRICS", folder / "metrics" / "drills.prom")
        monkeypatch.setattr(netdata, "active_alarms", lambda hosts: {host: self.alarms[host] for host in hosts})
        monkeypatch.setattr(acts, "ACTS", {name: self.act(name) for name in acts.ACTS})

    def act(self, name: str) -> Callable[[acts.Scene], str]:
        def act(scene: acts.Scene) -> str:
            self.acted.append(name)
            self.held.append(lock.holder(self.folder) is not None)
            if self.error:
                raise self.error
            return "as it has to be"

        return act

    def gauges(self) -> dict[str, float]:
        return prometheus.read((self.folder / "metrics" / "drills.prom").read_text())


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fleet:
    return Fleet(monkeypatch, tmp_path)


def test_a_good_drill_is_recorded(fleet: Fleet) -> None:
    began = time.time()
    assert cli.run("alarm", SETTINGS) == 0
    entry = record.read()["alarm"]
    assert (entry.result, entry.text) == ("good", "as it has to be") and entry.succeeded >= began
    assert record.read()["balancer"] == record.Entry(record.read()["balancer"].since), (
        "it has a schedule, and not run yet"
    )
    assert fleet.gauges()["phoenix_drills_failed"] == 0
    assert fleet.held == [False], "a deploy need not wait for it"
    assert lock.holder(fleet.folder) is None


def test_what_clients_are_served_by_changes_under_the_lock(fleet: Fleet) -> None:
    assert cli.run("balancer", SETTINGS) == 0
    assert fleet.held == [True] and lock.holder(fleet.folder) is None


@pytest.mark.parametrize("error", [acts.Failed("no answer for 20 s"), OSError("gone"), KeyError("x")])
def test_a_failed_one_raises_the_alarm_until_the_next_good_one(fleet: Fleet, error: Exception) -> None:
    fleet.error = error
    assert cli.run("balancer", SETTINGS) == 1
    assert record.read()["balancer"].result == "failed" and fleet.gauges()["phoenix_drills_failed"] == 1
    assert lock.holder(fleet.folder) is None, "released all the same"
    fleet.error = None
    assert cli.run("balancer", SETTINGS) == 0
    assert fleet.gauges()["phoenix_drills_failed"] == 0


@pytest.mark.parametrize("name", ["alarm", "balancer"])
def test_none_runs_while_a_play_holds_the_lock(fleet: Fleet, name: str) -> None:
    token, _ = lock.acquire(fleet.folder, "somebody (deploy.yml)", "deploy", 60)
    assert cli.run(name, SETTINGS) == 75
    assert fleet.acted == [] and "held by somebody (deploy.yml)" in record.read()[name].text
    held = lock.holder(fleet.folder)
    assert held and held.token == token, "the play goes on"


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ({"a": event("phoenix_site", "CRITICAL")}, "alarms are open: app1: phoenix_site"),
        ({"a": event("phoenix_disk_filling")}, "alarms are open: app1: phoenix_disk_filling"),
        (None, "Netdata does not say which alarms app1 has"),
        ({"a": event("phoenix_drill_failed"), "b": event("phoenix_drill_late")}, ""),
        ({"a": event("phoenix_site", "CLEAR")}, ""),
    ],
)
def test_none_runs_while_an_alarm_is_open_but_for_its_own(
    fleet: Fleet, events: dict[str, dict[str, str]] | None, why: str
) -> None:
    fleet.alarms["app1"] = events
    assert cli.run("alarm", SETTINGS) == (75 if why else 0)
    assert why in record.read()["alarm"].text and fleet.acted == ([] if why else ["alarm"])


def test_one_that_is_refused_leaves_the_last_result_and_gets_late(fleet: Fleet) -> None:
    fleet.error = acts.Failed("no answer")
    cli.run("alarm", SETTINGS)
    failed = record.read()["alarm"]
    fleet.alarms["app1"] = {"a": event("phoenix_site")}
    cli.run("alarm", SETTINGS)
    entry = record.read()["alarm"]
    assert (entry.result, entry.at, entry.succeeded) == ("failed", failed.at, 0.0) and entry.text.startswith(
        "refused 20"
    )


def test_one_that_takes_long_keeps_what_came_of_others_meanwhile(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default a restore begins an hour before the balancers change, and may take longer than that."""

    def restore(_: acts.Scene) -> str:
        fleet.error = acts.Failed("no answer")
        assert cli.run("balancer", settings) == 1
        return "restored"

    settings = {**SETTINGS, "drills": ["balancer", "restore"]}
    monkeypatch.setitem(acts.ACTS, "restore", restore)
    assert cli.run("restore", settings) == 0
    assert {name: entry.result for name, entry in record.read().items()} == {"balancer": "failed", "restore": "good"}
    assert fleet.gauges()["phoenix_drills_failed"] == 1


def test_the_oldest_success_counts_from_the_first_schedule() -> None:
    known = record.scheduled(
        {"restore": record.Entry(10.0, succeeded=90.0), "gone": record.Entry(1.0)}, ["restore", "alarm"], 50.0
    )
    assert known == {"restore": record.Entry(10.0, succeeded=90.0), "alarm": record.Entry(50.0)}
    assert record.gauges(known)["phoenix_drills_oldest_success_timestamp_seconds"] == 50
    assert "phoenix_drills_oldest_success_timestamp_seconds" not in record.gauges({})


def test_a_damaged_record_is_written_again(fleet: Fleet) -> None:
    record.FILE.write_text('{"alarm": {"x": 1}}')
    assert cli.main(["schedule", "alarm"]) == 0
    assert set(json.loads(record.FILE.read_text())) == {"alarm"}
    assert cli.main(["schedule", "flood"]) == 64


def test_in_time_every_kept_dump_is_restored_again() -> None:
    good: list[Any] = [dump(number) for number in (1, 2, 3)]
    assert {acts.choose(good, day * DAY + 60).number for day in range(3)} == {1, 2, 3}
    with pytest.raises(acts.Failed, match="no good dump"):
        acts.choose([], 0.0)


def test_a_client_that_asks_all_the_time_sees_the_longest_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acts, "ASKS_S", 0.005)
    times = iter(range(1000))

    def ask(_: str) -> None:
        if 5 <= (number := next(times)) < 12:
            raise OSError("connection reset") if number < 9 else http.client.BadStatusLine("")

    with acts.asking("https://www.example.org", ask) as seen:
        deadline = time.monotonic() + 10
        while seen.asked < 20 and time.monotonic() < deadline:
            time.sleep(0.005)
    assert len(seen.failures) == 7 and seen.longest >= 6 * acts.ASKS_S


def test_a_balancer_that_no_client_reaches_fails_the_drill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acts, "ASKS_S", 0.001)
    monkeypatch.setattr(acts, "LONGEST_GAP_S", -1.0)
    monkeypatch.setattr(acts, "_ask", lambda url: None)
    monkeypatch.setattr(acts, "_run", lambda *_: time.sleep(0.05))
    with pytest.raises(acts.Failed, match="the longest without an answer"):
        acts.balancer(acts.Scene("https://www.example.org", 0.0))
