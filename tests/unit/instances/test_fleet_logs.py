"""Logs of all application hosts: where they are, how they are asked, and in which order their lines are shown."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from phoenix.instances import fleet_logs, logs
from tests.unit.shared import TOP

LISTED = {
    "_meta": {
        "hostvars": {
            "app1": {"ansible_host": "192.0.2.1"},
            "app2": {"ansible_host": "192.0.2.2", "ansible_port": "2222"},
            "lb1": {"ansible_host": "192.0.2.9"},
        }
    },
    "app": {"hosts": ["app1", "app2"]},
    "app_standby": {"hosts": ["app2"]},
    "app_demand": {},
}


def test_all_application_hosts_are_asked_and_no_other() -> None:
    demand = [{"name": "od1", "address": "192.0.2.30", "state": "ready"}]
    assert fleet_logs.reached(LISTED, demand) == {
        "app1": ("192.0.2.1", 22),
        "app2": ("192.0.2.2", 2222),
        "od1": ("192.0.2.30", 22),
    }


def test_each_host_is_asked_the_same_and_only_known_ones() -> None:
    words = logs.words("2 hours ago", 5, True, ["3000", "worker"])
    assert words == ["--since=2 hours ago", "--lines=5", "--follow", "--", "3000", "worker"]
    line = fleet_logs.command(("192.0.2.2", 2222), words)
    assert line[-2:] == ["192.0.2.2", "sudo -n phoenixctl logs '--since=2 hours ago' --lines=5 --follow -- 3000 worker"]
    assert {"StrictHostKeyChecking=yes", "BatchMode=yes", "2222"} <= set(line)


def test_without_a_time_the_last_minutes_are_shown_or_what_follows() -> None:
    assert logs.words("", 0, False, []) == ["--since=15 minutes ago"]
    assert logs.words("", 0, True, []) == ["--follow"]


class Arriving:
    """Hosts whose lines arrive at these times, by a clock that goes on as it is asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, lines: list[tuple[float, str]]) -> None:
        self.lines, self.open, self.now = lines, 1, 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def line(self, seconds: float) -> str | None:
        if self.lines and self.lines[0][0] <= self.now + seconds:
            self.now, text = self.lines.pop(0)
            return text
        self.now += seconds
        self.open = len(self.lines)
        return None


def test_lines_wait_for_earlier_ones_of_other_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    arriving = Arriving(monkeypatch, [(0.0, "2 b"), (0.1, "1 a"), (5.0, "0 late"), (5.1, "3 d"), (5.2, "3 e")])
    shown = [(arriving.now, text) for text in fleet_logs.followed(arriving)]  # type: ignore[arg-type]
    assert [text for _, text in shown] == ["1 a", "2 b", "0 late", "3 d", "3 e"]
    assert shown[0][0] >= 0.1 + fleet_logs.HOLD_S
    assert shown[1][0] < 5


def test_many_lines_at_once_are_shown_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    arriving = Arriving(monkeypatch, [(0.0, f"{number:06} x") for number in reversed(range(20_000))])
    shown = list(fleet_logs.followed(arriving))  # type: ignore[arg-type]
    assert shown == sorted(shown) and len(shown) == 20_000


def test_elsewhere_than_on_control_it_says_where(tmp_path: Path) -> None:
    with pytest.raises(fleet_logs.Unknown, match="for the host of the group control"):
        fleet_logs.hosts(tmp_path)


def asked(tmp_path: Path, ssh: str, *options: str) -> subprocess.CompletedProcess[str]:
    """phoenixctl logs --fleet of app1 and app2, with a program in ssh's place that knows the host as $host."""
    program = tmp_path / "ssh"
    program.write_text(f"#!/bin/sh\nfor word; do last=$host host=$word; done\nhost=$last\n{ssh}\n")
    program.chmod(0o755)
    code = (
        "import sys; from phoenix.instances import fleet_logs, logs;"
        "fleet_logs.HOLD_S = 60; fleet_logs.hosts = lambda: {'app1': ('192.0.2.1', 22), 'app2': ('192.0.2.2', 22)};"
        "sys.exit(logs.main(['--fleet', *sys.argv[1:]]))"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *options],
        env={"PYTHONPATH": str(TOP / "src"), "PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


LINES = 'echo "2026-11-25T10:00:0${host#192.0.2.}Z $host one"; echo "2026-11-25T10:00:1${host#192.0.2.}Z $host two"'


@pytest.mark.parametrize("follow", [(), ("--follow",)])
def test_lines_of_all_hosts_are_in_the_order_of_their_times(tmp_path: Path, follow: tuple[str, ...]) -> None:
    done = asked(tmp_path, LINES, *follow)
    assert done.returncode == 0, done.stderr
    seen = [line.split(" ", 1)[1] for line in done.stdout.splitlines()]
    assert seen == ["192.0.2.1 one", "192.0.2.2 one", "192.0.2.1 two", "192.0.2.2 two"]


def test_the_newest_lines_are_those_of_the_fleet(tmp_path: Path) -> None:
    done = asked(tmp_path, LINES, "--lines", "1")
    assert done.stdout == "2026-11-25T10:00:12Z 192.0.2.2 two\n"


@pytest.mark.parametrize("follow", [(), ("--follow",)])
def test_a_host_that_does_not_answer_is_named_and_the_others_are_shown(tmp_path: Path, follow: tuple[str, ...]) -> None:
    done = asked(tmp_path, f"[ $host = 192.0.2.1 ] || exit 255; {LINES}", *follow)
    assert done.returncode == 1
    assert done.stderr == "app2: no lines from here on: ssh or phoenixctl ended with 255\n"
    assert [line.split()[2] for line in done.stdout.splitlines()] == ["one", "two"]
