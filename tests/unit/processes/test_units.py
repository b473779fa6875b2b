"""What systemd is asked for a process, what it reports of it, and when a host counts as switched."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from phoenix.common import systemd
from phoenix.instances import paths
from phoenix.processes import cli, target, units
from phoenix.processes.model import Process, Running, Target

WANTED = Target("r2", "0123456789ab", 5.0)
WORKER = Process("worker", "npm run worker", "128M", count=2, stop_timeout=7)
NIGHTLY = Process("nightly", "node nightly.js", "64M", calendar="daily", timeout=90)
INSTANCES = ["User=phoenix", "MemoryMax=256M", "TimeoutStopSec=10s", "EnvironmentFile=/e", "ProtectSystem=strict"]


@pytest.mark.parametrize(
    ("written", "started", "told", "expected"),
    [
        (100.0, 50.0, False, []),  # seconds ago
        (50.0, 100.0, False, ["restart"]),
        (100.0, 50.0, True, ["restart"]),
        (50.0, None, False, []),
    ],
)
@pytest.mark.parametrize("check", [False, True])
def test_a_keeper_whose_unit_is_newer_is_restarted_also_where_no_play_says_so(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    written: float,
    started: float | None,
    told: bool,
    expected: list[str],
    check: bool,
) -> None:
    unit = tmp_path / units.KEEPER
    unit.touch()
    os.utime(unit, (time.time() - written,) * 2)
    start = int((time.monotonic() - started) * 1e6) if started else 0
    shown = (
        f"LoadState=loaded\nUnitFileState=enabled\nActiveState=active\nFragmentPath={unit}\n{systemd.STARTED}={start}\n"
    )
    asked = list[str]()

    def systemctl(verb: str, *_: str) -> str:
        asked.append(verb)
        return shown if verb == "show" else ""

    monkeypatch.setattr(systemd, "systemctl", systemctl)
    monkeypatch.setattr(target, "read", lambda: WANTED)
    monkeypatch.setattr(target, "processes", lambda _: {"worker": WORKER})
    assert [change.action for change in cli.keep(check=check, restart=told)] == expected
    assert asked == ["show", *(["daemon-reload", "restart"] if expected and not check else [])]


def test_a_process_gets_the_instances_settings_and_its_own_last() -> None:
    found = units.properties("worker@1", WORKER, WANTED, INSTANCES)
    assert found[:4] == ["User=phoenix", "MemoryMax=256M", "TimeoutStopSec=10s", "ProtectSystem=strict"]
    last = dict(one.split("=", 1) for one in found)
    assert last["MemoryMax"] == "128M" and last["TimeoutStopSec"] == "7" and last["Restart"] == "always"
    assert last["EnvironmentFile"] == "/etc/phoenix/configurations/0123456789ab/environment.worker"
    assert last["WorkingDirectory"] == "/opt/phoenix/releases/r2" and last["BindsTo"] == units.KEEPER
    assert "RuntimeMaxSec" not in last


def test_a_schedule_is_a_timer_whose_command_ends() -> None:
    line = units.line("nightly@1", NIGHTLY, WANTED, INSTANCES, "echo $A")
    assert "--on-calendar=daily" in line and f"--timer-property=BindsTo={units.KEEPER}" in line
    assert "--property=RuntimeMaxSec=90" in line and not [word for word in line if "Restart=" in word]
    assert line[-3:] == ["/bin/sh", "-c", "echo $$A"]
    assert not [word for word in units.line("worker@1", WORKER, WANTED, [], "x") if "calendar" in word]


def shown(name: str, state: str = "active", revision: str = "r2 0123456789ab") -> dict[str, str]:
    return {"Id": name, "ActiveState": state, "NRestarts": "2", "Description": f"Phoenix, x of {revision}"}


def test_what_systemd_reports_is_understood() -> None:
    found = units.understood(
        [
            shown("phoenix-worker@1.service", "activating"),
            shown("phoenix-worker@2.service", "deactivating"),
            shown("phoenix-nightly@1.timer"),
            shown("phoenix-nightly@1.service", "inactive"),
            shown("phoenix-report@1.timer"),
            shown("phoenix-report@1.service"),
            shown("phoenix-gone@1.service", "failed"),
            shown("phoenix@3000.service"),
        ]
    )
    revision = "r2 0123456789ab"
    assert found == {
        "worker@1": Running(revision, restarts=2),
        "worker@2": Running(revision, stopping=True, restarts=2),
        "nightly@1": Running(revision),
        "report@1": Running(revision, busy=True, restarts=2),
    }


STATUS = {
    "host": "app1", "release": "r2", "configuration": "0123456789ab", "eligible": True, "error": "",
    "holders": {"worker@1": "app1", "worker@2": "app2"},
}  # fmt: skip
GOOD = {"worker@1": Running(WANTED.revision)}


@pytest.mark.parametrize(
    ("status", "running", "why"),
    [
        ({}, GOOD, ""),
        ({"release": "r1"}, GOOD, "has not read"),
        ({"error": "no primary"}, GOOD, "no primary"),
        ({"holders": {"worker@1": "app1", "worker@2": ""}}, GOOD, "on no host yet: worker@2"),
        ({}, {"worker@1": Running("r1 0123456789ab")}, "not running yet: worker@1"),
        ({}, {"worker@1": Running("r1 0123456789ab", busy=True)}, ""),
        ({}, {"worker@1": Running(WANTED.revision, stopping=True)}, "not running yet: worker@1"),
        ({}, {}, "not running yet: worker@1"),
        ({"eligible": False}, GOOD, "still stopping: worker@1"),
        ({"eligible": False}, {}, ""),
    ],
)
def test_when_a_host_is_switched(status: dict[str, object], running: dict[str, Running], why: str) -> None:
    found = cli.unsettled({**STATUS, **status}, WANTED, {"worker": WORKER}, running)
    assert (why in found) if why else found == ""


def test_a_keeper_that_wrote_nothing_yet_is_waited_for() -> None:
    assert "has not read" in cli.unsettled({}, WANTED, {"worker": WORKER}, GOOD)


def test_a_target_is_recorded_and_until_then_what_instances_get(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PROCESSES", "CURRENT", "CONFIGURATION", "CONFIGURATIONS"):
        monkeypatch.setattr(paths, name, tmp_path / name.lower())
    paths.CURRENT.symlink_to("/opt/phoenix/releases/r1")
    paths.CONFIGURATION.symlink_to(paths.CONFIGURATIONS / "c1")
    assert (target.read().release, target.read().configuration) == ("r1", "c1") and target.read().since > 0
    recorded = target.record("r2", "c2")
    assert target.read() == recorded and recorded.revision == "r2 c2"
    folder = paths.CONFIGURATIONS / "c2"
    folder.mkdir(parents=True)
    assert target.processes("c2") == target.processes("") == {}
    (folder / "processes.json").write_text('{"worker": {"command": "node w.js", "memory": "1G"}}')
    (folder / "environment.worker").write_text('A="1"\nDB_CONNECTION_STRING="mongodb://a:b\\$c@d/e"\n')
    found = target.processes("c2")
    assert target.database("c2", found) == "mongodb://a:b$c@d/e" and target.database("c2", {}) == ""


@pytest.mark.parametrize(
    ("uri", "expected"),
    [("mongodb://d/e?ssl=true", "/etc/ssl/phoenix/ca.pem"), ("mongodb://d/e?a=b&tls=true", "/etc/ssl/phoenix/ca.pem"),
     ("mongodb://d/e?ssl=truer", ""), ("mongodb://d/e", "")],
)  # fmt: skip
def test_the_cas_of_the_environment_are_for_a_database_by_tls(
    uri: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without, an application may have them for something else, and the driver refuses CAs for a plain connection."""
    monkeypatch.setattr(paths, "CONFIGURATIONS", tmp_path)
    (tmp_path / "c").mkdir()
    for ca, ours in (("/etc/ssl/phoenix/ca.pem", expected), ("/etc/ssl/own.pem", "")):
        written = f'DB_CONNECTION_STRING="{uri}"\nNODE_EXTRA_CA_CERTS="{ca}"\n'
        (tmp_path / "c" / "environment.worker").write_text(written)
        assert target.trusted("c", {"worker": WORKER}) == ours and target.trusted("c", {}) == ""
