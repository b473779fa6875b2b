"""The floating addresses on a load balancer, with its interfaces and keepalived's files stood in for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from phoenix.balancer import floating
from tests.harness.waiting import wait_for
from tests.unit.shared import TOP

ADDRESSES = ["192.0.2.10", "192.0.2.9"]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with both addresses, of which keepalived takes away those whose file says so."""
    for name in ("nginx", "away-1", "away-2"):
        (tmp_path / name).write_text("0\n")
    configuration = tmp_path.parent / "floating.json"
    configuration.write_text(json.dumps({"addresses": ADDRESSES}))
    monkeypatch.setattr(floating, "CONFIGURATION", configuration)
    monkeypatch.setattr(floating, "FOLDER", tmp_path)
    monkeypatch.setattr(floating, "GIVE_UP_S", 0.1)
    monkeypatch.setattr(floating, "STAY_AWAY_S", 0.0)

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        here = [a for n, a in enumerate(ADDRESSES, 1) if (tmp_path / f"away-{n}").read_text() == "0\n"]
        links = [{"addr_info": [{"local": a} for a in ["192.0.2.11", *here]]}, {}]
        return subprocess.CompletedProcess(command, 0, json.dumps(links), "")

    monkeypatch.setattr(subprocess, "run", run)
    return tmp_path


def contents(folder: Path) -> list[str]:
    return [path.read_text().strip() for path in sorted(folder.iterdir())]


def test_a_host_without_floating_addresses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(floating, "CONFIGURATION", tmp_path / "none")
    assert floating.addresses() == []


def test_what_is_held_is_what_the_interfaces_have(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert floating.main(["show"]) == 0
    assert json.loads(capsys.readouterr().out) == {"held": dict.fromkeys(ADDRESSES, True), "obstacle": ""}
    (host / "away-2").write_text("1\n")
    assert floating.main(["show"]) == 1
    assert json.loads(capsys.readouterr().out)["held"] == {"192.0.2.10": True, "192.0.2.9": False}


def test_a_stopped_nginx_is_an_obstacle(host: Path) -> None:
    (host / "nginx").write_text("1\n")
    assert "systemctl status nginx" in floating.obstacle()


def test_leaving_is_for_a_moment(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    during: list[list[str]] = []
    monkeypatch.setattr(time, "sleep", lambda _: during.append(contents(host)))
    assert floating.main(["leave", "192.0.2.9"]) == 0
    assert during[-1] == ["0", "1", "0"]
    assert contents(host) == ["0", "0", "0"]


def test_an_address_that_stays_is_reported_and_nothing_is_left_behind(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floating, "held", lambda wanted: dict.fromkeys(wanted, True))
    assert floating.main(["leave"]) == 1
    assert contents(host) == ["0", "0", "0"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_one_that_is_ended_meanwhile_leaves_nothing_behind(host: Path, number: signal.Signals) -> None:
    program = (
        "import sys; from pathlib import Path; from phoenix.balancer import floating\n"
        f"floating.CONFIGURATION, floating.FOLDER = Path({str(floating.CONFIGURATION)!r}), Path({str(host)!r})\n"
        "floating.held = lambda wanted: dict.fromkeys(wanted, True)\n"
        "floating.GIVE_UP_S = 60; sys.exit(floating.main(['leave']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(TOP / "src")}
    ) as process:
        wait_for(lambda: contents(host) == ["1", "1", "0"], 30, "the files that keep the addresses away")
        process.send_signal(number)
        assert process.wait(30) == 1
    assert contents(host) == ["0", "0", "0"]


def test_an_address_of_another_fleet_is_refused(host: Path) -> None:
    assert floating.main(["leave", "192.0.2.77"]) == 64
    assert contents(host) == ["0", "0", "0"]
