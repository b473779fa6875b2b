"""Hosts on demand as control runs them: a provider that is a real program, against plays and a clock that are not."""

from __future__ import annotations

import json
import marshal
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from typing import Any

import pytest

from phoenix.autoscaler.action import NOT_TAKEN, Result
from phoenix.fleet import placement
from phoenix.provider import cli, client, cloud_config, need, published, service
from phoenix.provider.demand import Corrupt, NotDone, Store
from phoenix.provider.lifecycle import Entry, Record
from phoenix.provider.settings import Settings, load, parse
from phoenix.provider.worker import FleetWorker
from phoenix.state import desired, lock
from tests.unit.shared import TOP

OWN = ("app1", "app2", "app3")
ROOM, PER_HOST, HOSTS = 12, 4, 3
BALANCERS = ("lb1", "lb2")
RELEASE, CONFIGURATION = "1.0.0-abc", "0123456789ab"
FOREIGN = {"i-db1": {"name": "db1", "fleet": "other", "address": "192.0.2.31", "state": "running", "host_key": ""}}
# As tests/fixtures/provider answers, with errors to order: the file `trouble` beside that of the hosts names them. Both
# are compiled once for all of their hundreds of starts.
TROUBLE = """
import json, marshal, os, sys
text = sys.stdin.read()
request = json.loads(text)
trouble = open(os.path.dirname(request["settings"]["file"]) + "/trouble").read().split()
def fail(kind):
    print(json.dumps({"error": {"class": kind, "message": f"a {kind} to order"}}))
    sys.exit(1)
if "away" in trouble:
    sys.exit("no route")
if request["action"] == "create" and "killed-before" in trouble:
    os.kill(os.getpid(), 9)
for kind in ("quota", "failed"):
    if request["action"] == "create" and kind in trouble:
        fail(kind)
if request["action"] == "delete" and "locked" in trouble:
    fail("failed")
sys.stdin = __import__("io").StringIO(text)
program = marshal.loads(open(sys.argv[1], "rb").read()[16:])
if request["action"] == "create" and "killed-after" in trouble:
    sys.stdout = open(os.devnull, "w")
    exec(program, {"__name__": "__main__"})
    os.kill(os.getpid(), 9)
if request["action"] == "create" and "killed-half" in trouble:
    sys.stdout = open(os.devnull, "w")
    exec(program, {"__name__": "__main__"})
    known = json.load(open(request["settings"]["file"]))
    for host in known.values():
        if host["name"] == request["name"]:
            host["state"] = "creating"
    with open(request["settings"]["file"], "w") as file:
        json.dump(known, file)
    os.kill(os.getpid(), 9)
exec(program, {"__name__": "__main__"})
"""


def compiled(text: str, name: str) -> bytes:
    """A program as Python keeps it in a file of its own."""
    return MAGIC_NUMBER + bytes(12) + marshal.dumps(compile(text, name, "exec"))


PROVIDER = TOP / "tests" / "fixtures" / "provider"
COMPILED = {
    "program.pyc": compiled(TROUBLE, "TROUBLE"),
    "provider.pyc": compiled(PROVIDER.read_text(encoding="utf-8"), str(PROVIDER)),
}


class Killed(BaseException):
    """The daemon ends here, as by kill -9."""


class KillableStore(Store):
    """Its writing may be the last that the daemon does, before or after the file is replaced."""

    countdown: list[int]

    def point(self) -> None:
        if self.countdown:
            self.countdown[0] -= 1
            if self.countdown[0] < 0:
                self.countdown.clear()
                raise Killed

    def save(self, record: Record) -> None:
        self.point()
        super().save(record)
        self.point()


class Service(service.Service):
    countdown: list[int]

    @property
    def store(self) -> Store:
        store = KillableStore(self.folder / "hosts.json")
        object.__setattr__(store, "countdown", self.countdown)
        return store


@dataclass
class Fleet:
    """The fleet around the daemon: what runs where, a provider's file, and the wall clock."""

    folder: Path
    now: float = 1_000_000.0
    running: dict[str, list[int]] = field(default_factory=dict)  # what the load balancers use
    outdated: set[str] = field(default_factory=set)
    slow: bool = False
    locked: bool = False
    balancer_lost: bool = False
    joined: list[str] = field(default_factory=list)
    scaled: list[int] = field(default_factory=list)
    countdown: list[int] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)  # deleted while the load balancers used them

    def __post_init__(self) -> None:
        for name in ("demand", "state", "provider"):
            (self.folder / name).mkdir()
        for name, content in COMPILED.items():
            (self.folder / "provider" / name).write_bytes(content)
        self.trouble()
        self.hosts = FOREIGN
        desired.record("release", RELEASE, self.folder / "state")
        desired.record("configuration", json.dumps({"app1": CONFIGURATION}), self.folder / "state")
        self.key = self.folder / "id_ed25519"
        self.key.with_suffix(".pub").write_text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDu3 control\n")
        self.scale(2)

    # --- the provider

    def trouble(self, *kinds: str) -> None:
        (self.folder / "provider" / "trouble").write_text(" ".join(kinds))

    @property
    def hosts(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "provider" / "hosts.json").read_text()))

    @hosts.setter
    def hosts(self, hosts: dict[str, Any]) -> None:
        (self.folder / "provider" / "hosts.json").write_text(json.dumps(hosts))

    @property
    def names(self) -> list[str]:
        return sorted(host["name"] for key, host in self.hosts.items() if key not in FOREIGN)

    # --- the plays

    def place(self, capacity: int) -> dict[str, list[int]]:
        known = published.read(self.folder / "demand" / "hosts.json")
        made = [host["name"] for host in known if host["accepts"]]
        return placement.place(capacity, OWN[:2], OWN[2:], per_host=PER_HOST, demand=made)

    def room(self) -> int:
        known = published.read(self.folder / "demand" / "hosts.json")
        return ROOM + PER_HOST * len([host for host in known if host["accepts"]])

    def scale(self, count: int) -> None:
        self.running = {host: ports for host, ports in self.place(count).items() if ports}
        desired.record("capacity", str(count), self.folder / "state")

    def scale_to(self, count: int, timeout: float) -> Result:
        if self.locked:
            return Result(False, "the lock is held")
        if count > self.room():
            return Result(False, f"{count} is more than the hosts hold")
        self.scaled.append(count)
        if self.balancer_lost:
            return Result(True, "done", left_out={"lb1": NOT_TAKEN})
        self.scale(count)
        return Result(True, "done")

    def run(self, playbook: str, variables: dict[str, str], timeout: float) -> Result:
        assert playbook == "join"
        self.joined.append(variables["phoenix_join_name"])
        self.outdated.discard(variables["phoenix_join_address"])
        return Result(True, "done")

    def ssh(self, address: str, command: str) -> str:
        running = [host for host in self.hosts.values() if host["state"] == "running"]
        found = [host["name"] for host in running if host["address"] == address]
        if self.slow or not found:
            raise NotDone("no SSH yet")
        status = {
            "current": "0.9.0" if address in self.outdated else desired.read_release(self.folder / "state"),
            "configuration": CONFIGURATION,
            "instances": [{"port": port, "active": True} for port in self.running.get(found[0], [])],
        }
        return f"phoenixctl 1.2.3\n{json.dumps(status)}\n"

    # --- the daemon

    def settings(self) -> Settings:
        return parse(
            {
                "command": [
                    sys.executable, "-I", "-S",
                    *(str(self.folder / "provider" / name) for name in COMPILED),
                ],
                "fleet": "www.example.org.demand",
                "image": "prepared",
                "user": "debian",
                "authorized_keys": [],
                "addresses": [f"192.0.2.{60 + number}" for number in range(HOSTS)],
                "room": ROOM,
                "instances_per_host": PER_HOST,
                "reference": "app1",
                "balancers": list(BALANCERS),
                "provider_settings": {"file": str(self.folder / "provider" / "hosts.json")},
                "creations_per_hour": 1000,
                "boot_seconds": 300,
                "idle_seconds": 60,
            }
        )  # fmt: skip

    def daemon(self) -> Service:
        """One that has just started."""
        settings = self.settings()
        worker = FleetWorker(
            settings, self, self.folder / "demand", self.folder / "state", self.key, self.ssh, lambda: "1.2.3"
        )
        made = Service(settings, worker, self.folder / "demand", self.folder / "status.json", lambda: self.now)
        made.countdown = self.countdown
        return made

    def need(self, count: int) -> None:
        """What the autoscaler says, and does as far as the hosts allow."""
        (self.folder / "status.json").write_text(json.dumps({"written": self.now, "needed": count}))
        if not self.locked:
            self.scale_to(min(max(count, 2), self.room()), 0)

    def record(self) -> Record:
        return Store(self.folder / "demand" / "hosts.json").load()

    def check(self) -> None:
        """What holds at any time: no instance on a host that is gone by Phoenix's doing, and nothing else touched."""
        assert {key: host for key, host in self.hosts.items() if key in FOREIGN} == FOREIGN
        assert len(self.names) <= HOSTS
        assert set(self.names) <= set(self.record().hosts), "a host that no record explains"


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    # Hundreds of keys, waits and durable writes would take most of the time.
    monkeypatch.setattr(client, "POLL_SECONDS", 0.002)
    monkeypatch.setattr(cloud_config, "host_key", lambda: {"private": "secret", "public": "ssh-ed25519 AAAA"})
    monkeypatch.setattr(cli, "_trust", lambda order, key: True)
    monkeypatch.setattr(lock, "holder", lambda folder: None)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Fleet(Path(folder))


def until(fleet: Fleet, daemon: Service, count: int, done: Callable[[], bool], seconds: float = 2) -> None:
    for _ in range(60):
        fleet.now += seconds
        fleet.need(count)
        daemon.tick()
        fleet.check()
        if done():
            return
    raise AssertionError(f"not done: {fleet.record()}, {daemon.noted}")


def serving(fleet: Fleet) -> list[str]:
    return [host for host in fleet.running if host not in OWN]


def test_made_for_the_load_and_given_back_after_it(fleet: Fleet) -> None:
    daemon = fleet.daemon()
    until(fleet, daemon, 12, lambda: len(fleet.running) == 3)
    assert fleet.names == []
    until(fleet, daemon, 20, lambda: serving(fleet) == ["extra-1", "extra-2"])
    assert sum(map(len, fleet.running.values())) == 20
    assert fleet.joined == []  # from a prepared image nothing is to be done
    assert {host["address"] for key, host in fleet.hosts.items() if key not in FOREIGN} == {"192.0.2.60", "192.0.2.61"}
    until(fleet, daemon, 14, lambda: fleet.names == ["extra-1"])
    assert fleet.running["extra-1"] == [3000, 3001]
    until(fleet, daemon, 2, lambda: fleet.names == [])
    assert published.read(fleet.folder / "demand" / "hosts.json") == []


def test_a_creation_that_was_cut_off_half_way_is_completed(fleet: Fleet) -> None:
    daemon = fleet.daemon()
    fleet.trouble("killed-half")
    until(fleet, daemon, 16, lambda: fleet.names == ["extra-1"])
    assert [host["state"] for key, host in fleet.hosts.items() if key not in FOREIGN] == ["creating"]
    fleet.trouble()
    until(fleet, daemon, 16, lambda: serving(fleet) == ["extra-1"])
    assert fleet.names == ["extra-1"]


def test_given_back_no_sooner_than_after_the_idle_time(fleet: Fleet) -> None:
    daemon = fleet.daemon()
    until(fleet, daemon, 16, lambda: serving(fleet) == ["extra-1"])
    began = fleet.now
    until(fleet, daemon, 2, lambda: fleet.names == [])
    assert fleet.now - began >= 60


def test_an_old_image_is_brought_to_what_is_recorded_before_it_serves(fleet: Fleet) -> None:
    daemon = fleet.daemon()
    fleet.outdated.add("192.0.2.60")
    until(fleet, daemon, 16, lambda: serving(fleet) == ["extra-1"])
    assert fleet.joined == ["extra-1"]


def test_a_host_that_stands_by_follows_a_deploy_that_left_it_out(fleet: Fleet) -> None:
    daemon = fleet.daemon()
    fleet.locked = True  # nothing is scaled onto it meanwhile
    until(fleet, daemon, 16, lambda: [e.state for e in fleet.record().hosts.values()] == ["standby"])
    desired.record("release", "2.0.0", fleet.folder / "state")
    fleet.outdated.add("192.0.2.60")
    fleet.now += service.REST_SECONDS
    fleet.need(16)
    daemon.tick()
    assert fleet.joined == ["extra-1"]


def test_scale_in_does_not_wait_for_the_provider(fleet: Fleet) -> None:
    daemon = fleet.daemon()
    until(fleet, daemon, 20, lambda: len(serving(fleet)) == 2)
    fleet.trouble("away")
    until(fleet, daemon, 2, lambda: {e.state for e in fleet.record().hosts.values()} == {"deleted"})
    assert serving(fleet) == []
    assert len(fleet.names) == 2
    fleet.trouble()
    fleet.now += service.AWAY_MOST_SECONDS
    until(fleet, daemon, 2, lambda: fleet.names == [])


def test_nothing_is_deleted_that_a_load_balancer_may_still_use(fleet: Fleet) -> None:
    daemon = fleet.daemon()
    until(fleet, daemon, 16, lambda: serving(fleet) == ["extra-1"])
    fleet.need(2)
    fleet.balancer_lost = True
    with pytest.raises(AssertionError, match="not done"):
        until(fleet, daemon, 2, lambda: fleet.names == [])
    assert any("lb1 may still use it" in text for text in daemon.noted)
    fleet.balancer_lost = False
    until(fleet, daemon, 2, lambda: fleet.names == [])


def test_a_lost_record_leaves_what_serves(fleet: Fleet) -> None:
    daemon = fleet.daemon()
    until(fleet, daemon, 20, lambda: len(serving(fleet)) == 2)
    (fleet.folder / "demand" / "hosts.json").unlink()
    daemon = fleet.daemon()
    daemon.tick()
    assert fleet.names == ["extra-1", "extra-2"]
    assert {entry.state for entry in fleet.record().hosts.values()} == {"serving"}


def test_a_damaged_record_stops_everything_and_is_said(fleet: Fleet) -> None:
    daemon = fleet.daemon()
    (fleet.folder / "demand" / "hosts.json").write_text("{")
    with pytest.raises(Corrupt):
        daemon.tick()
    ticks = iter([None, None])

    def sleep(seconds: float) -> None:
        if next(ticks, 0) == 0:
            daemon.stopping = True

    daemon.run(sleep)
    assert any("is not a record of hosts" in text for text in daemon.noted)


def test_a_stray_that_is_not_deleted_is_counted(fleet: Fleet) -> None:
    daemon = fleet.daemon()
    stray = {"name": "extra-9", "fleet": "www.example.org.demand", "address": "192.0.2.69", "state": "running"}
    fleet.hosts = {**FOREIGN, "i-9": {**stray, "host_key": ""}}
    fleet.trouble("locked")
    daemon.tick()
    assert daemon.strays == 1
    fleet.trouble()
    fleet.now += service.REST_SECONDS
    daemon.tick()
    fleet.now += service.REST_SECONDS
    daemon.tick()
    assert (daemon.strays, fleet.names) == (0, [])


def test_what_people_see(fleet: Fleet) -> None:
    daemon = fleet.daemon()
    fleet.trouble("quota")
    until(fleet, daemon, 16, lambda: fleet.record().failures > 0)
    daemon.report()
    shown = published.lines(published.read_status(fleet.folder / "demand"), fleet.now + 5)
    assert shown[0] == "HOSTS ON DEMAND 1 wanted of 3, 1 of 1000 creations in the last hour, 1 failed in a row"
    assert "extra-1" in shown[1] and "claimed" in shown[1]
    assert shown[2].endswith("create extra-1: a quota to order")
    gauges = (fleet.folder / "demand" / "demand.prom").read_text()
    assert "\nphoenix_demand_failed_creations 1\n" in gauges


# --- the fault run


FAULTS = (
    "away",
    "quota",
    "failed",
    "killed-before",
    "killed-after",
    "killed-half",
    "locked",
    "slow",
    "lock",
    "by hand",
    "killed",
    "balancer",
)


def test_after_fifty_random_faults_no_host_is_leaked_and_none_lost(fleet: Fleet) -> None:
    """Load that comes and goes, a fault every few seconds; then the provider works, and everything is given back."""
    chance, seen = random.Random(1), set()
    daemon, wanted = fleet.daemon(), 2
    for _ in range(50):
        fault = chance.choice(FAULTS)
        seen.add(fault)
        wanted = chance.choice([2, 8, 13, 16, 17, 24, wanted])
        fleet.trouble(*([fault] if fault in FAULTS[:7] else []))
        fleet.slow, fleet.locked, fleet.balancer_lost = fault == "slow", fault == "lock", fault == "balancer"
        if fault == "by hand" and fleet.names:
            gone = chance.choice(fleet.names)
            fleet.hosts = {key: host for key, host in fleet.hosts.items() if host["name"] != gone}
        for _ in range(chance.randint(1, 3)):
            fleet.now += chance.choice([2, 10, 70, 400])
            fleet.need(wanted)
            served = set(fleet.running)
            before = set(fleet.names)
            if fault == "killed":
                fleet.countdown[:] = [chance.randint(0, 9)]
            try:
                daemon.tick()
            except Killed:
                daemon = fleet.daemon()
            fleet.countdown.clear()
            deleted = before - set(fleet.names)
            # Lost would be one that the load balancers still used when Phoenix deleted it.
            assert not deleted & set(fleet.running), (deleted, served)
            fleet.check()
    assert len(seen) > len(FAULTS) * 0.8
    fleet.trouble()
    fleet.slow = fleet.locked = fleet.balancer_lost = False
    # Whatever was broken, the load gets what it needs now, and after it nothing is left.
    until(fleet, daemon, 24, lambda: sum(map(len, fleet.running.values())) == 24, seconds=90)
    assert len(serving(fleet)) == HOSTS
    until(fleet, daemon, 2, lambda: fleet.record().hosts == {}, seconds=90)
    assert fleet.hosts == FOREIGN


# --- how many


def test_more_at_once_and_fewer_after_a_while() -> None:
    want = need.decide(need.Want(), 17, 12, 4, 0, 60)
    assert want.hosts == 2
    want = need.decide(want, 12, 12, 4, 10, 60)
    want = need.decide(want, 14, 12, 4, 50, 60)  # a second of one host is enough for the whole time
    want = need.decide(want, 12, 12, 4, 69, 60)
    assert want.hosts == 2
    want = need.decide(want, 12, 12, 4, 70, 60)
    assert want.hosts == 1
    want = need.decide(want, 16, 12, 4, 75, 60)
    assert need.decide(want, 12, 12, 4, 130, 60).hosts == 1


@pytest.mark.parametrize(
    ("recorded", "status", "expected"),
    [
        ("14", {"written": 0, "needed": 20}, 14),  # an old status says nothing
        ("14", {"written": 95, "needed": 20}, 20),
        ("14", {"written": 95, "needed": None}, 14),
        ("garbage", {"written": 95, "needed": 20}, 20),
        ("garbage", {}, None),
    ],
)
def test_what_is_needed(tmp_path: Path, recorded: str, status: dict[str, Any], expected: int | None) -> None:
    (tmp_path / "capacity").write_text(recorded)
    (tmp_path / "status.json").write_text(json.dumps(status))
    assert service.needed(tmp_path, tmp_path / "status.json", 100.0) == expected


# --- the configuration


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"command": []}, "demand_command: []; give the provider's command"),
        ({"addresses": ["app9"]}, "demand_addresses: 'app9' is no IP address"),
        ({"addresses": ["192.0.2.1", "192.0.2.1"]}, "192.0.2.1 is there twice"),
        ({"fleet": "a b"}, "demand_fleet: 'a b' can't be a tag"),
        ({"prefix": "Extra_"}, "demand_prefix: 'Extra_' begins no host name"),
        ({"user": ""}, "demand_user: '' is no user"),
        ({"image": ""}, "demand_image: empty"),
        ({"authorized_keys": ["x"]}, "demand_authorized_keys: ['x']; give public keys"),
        ({"creations_per_hour": 0}, "demand_creations_per_hour: 0; give 1 or more"),
        ({"speed": 1}, "unknown keys: speed"),
    ],
)
def test_a_wrong_configuration_is_refused(fleet: Fleet, change: dict[str, Any], message: str) -> None:
    path = fleet.folder / "demand.json"
    path.write_text(json.dumps({**vars(fleet.settings()), **change}))
    with pytest.raises(ValueError, match=r"demand\.json: ") as error:
        load(path)
    assert message in str(error.value)


def test_known_to_plays_with_the_key_that_it_was_made_with(tmp_path: Path) -> None:
    (tmp_path / "known_hosts").write_text("192.0.2.60 ssh-ed25519 AAAA\n192.0.2.61 ssh-ed25519 BBBB\n")
    store = Store(tmp_path / "hosts.json")
    store.save(
        Record(
            {
                name: Entry(name, state, 0, address=f"192.0.2.{last}")
                for name, state, last in [
                    ("extra-10", "serving", 60), ("extra-9", "draining", 61), ("extra-11", "booting", 62)
                ]
            }
        )
    )  # fmt: skip
    assert published.with_keys(store.path, tmp_path / "known_hosts") == [
        {"name": "extra-9", "address": "192.0.2.61", "state": "draining", "accepts": False, "key": "ssh-ed25519 BBBB"},
        {"name": "extra-10", "address": "192.0.2.60", "state": "serving", "accepts": True, "key": "ssh-ed25519 AAAA"},
    ]
