"""What is done to bring a fleet back after a fault that was broken off."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from drills.model import Scene
from soak import found, run
from soak.found import Found
from tests.harness import programs
from tests.unit.soak.fleets import fleet, status

BEFORE = fleet()


class Host:
    def __init__(self) -> None:
        self.commands: list[str] = []

    def run(self, command: str) -> Any:
        self.commands.append(command)
        answers = {"echo up": "up", "systemctl is-system-running": "running", programs.LOCK_SHOW: "free"}
        return SimpleNamespace(stdout=answers.get(command, ""))

    def check_output(self, command: str) -> str:
        return str(self.run(command).stdout)


class Fleet(Scene):
    """A fleet that is as before once the plays that it needs have run."""

    def __init__(self, seen: Found, cured_by: int) -> None:
        super().__init__("inventory", "https://192.0.2.10")
        names = [*seen.hosts, "control1"]
        started: list[str] = []
        machines = {name: SimpleNamespace(start=lambda name=name: started.append(name)) for name in names}
        self.__dict__.update(seen=seen, cured_by=cured_by, played=[], started=started, machines=machines)
        self.__dict__["known"] = {name: Host() for name in names}

    def hosts(self, group: str) -> dict[str, Any]:
        known: dict[str, Any] = self.__dict__["known"]
        prefix = {"all": "", "db": "db", "control": "control"}[group]
        return {name: host for name, host in known.items() if name.startswith(prefix)}

    def play(self, name: str, *options: str, **variables: Any) -> str:
        self.__dict__["played"].append((name, variables))
        return ""


@pytest.fixture
def put_back(monkeypatch: pytest.MonkeyPatch) -> Any:
    def look(scene: Any) -> Found:
        return BEFORE if len(scene.played) >= scene.cured_by else scene.seen

    monkeypatch.setattr(found, "look", look)
    monkeypatch.setattr(run, "LOOK_EVERY_S", 0.0)

    def done(seen: Found, cured_by: int) -> Any:
        scene: Any = Fleet(seen, cured_by)
        run.put_back(scene, BEFORE)
        return scene

    return done


def test_every_host_gets_its_power_its_network_and_its_disk_back(put_back: Any) -> None:
    scene = put_back(BEFORE, 0)
    assert set(scene.started) == set(scene.known)
    assert all("nft delete table inet cut" in " ".join(host.commands) for host in scene.known.values())
    grown = [name for name, host in scene.known.items() if "systemctl start mongod" in " ".join(host.commands)]
    assert grown == ["db1", "db2", "db3"]
    assert scene.played == []


def test_the_capacity_comes_back(put_back: Any) -> None:
    scene = put_back(fleet(record={"capacity": 3}, rotation=3), 1)
    assert scene.played == [("scale", {"phoenix_capacity": 2, "scale_lock_wait": 300})]


@pytest.mark.parametrize(
    "half",
    [
        fleet(record={"release": "2"}),
        fleet(app1=status(instances=["3000", "3900"], release="2")),
    ],
)
def test_the_release_comes_back(put_back: Any, half: Found) -> None:
    assert put_back(half, 1).played == [("rollback", {"phoenix_version": "1", "deploy_lock_wait": 300})]


def test_what_stays_wrong_is_an_error(put_back: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "BACK_S", 0.01)
    with pytest.raises(AssertionError, match="still not as before: db3 does not answer"):
        put_back(fleet(db3={}), 99)
