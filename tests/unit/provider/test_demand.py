"""Hosts on demand under errors of every kind: nothing leaks, nothing else is touched, and scale-in never waits."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from phoenix.provider.contract import Failed, Foreign, Host, Quota, Unavailable
from phoenix.provider.demand import Corrupt, NotDone, Store, step
from phoenix.provider.lifecycle import HOUR, LIVE, STATES, Entry, Limits, Record

LIMITS = Limits(hosts=3, creations_per_hour=5, boot=300, settle=200, missing=60, retry=10, retry_max=100)
FOREIGN = {"db1": "i-db1", "extra-2": "i-foreign"}  # untagged, one of them with a name that looks like ours
LATE = 150.0  # seconds until a creation that was given up still appears: less than settle


class Killed(BaseException):
    """The process ends here, as by kill -9."""


class Cloud:
    """A provider with errors to order, whose hosts outlive the process that uses it."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.hosts: dict[str, Host] = {}  # by id, with the tag
        self.foreign = dict(FOREIGN)
        self.serial = 0
        self.quota = 99
        self.away = self.lost = self.create_fails = self.delete_fails = self.slow = self.drain_fails = False
        self.in_flight: list[tuple[float, str]] = []
        self.attempts: list[float] = []
        self.drained: set[str] = set()
        self.served: set[str] = set()
        self.deleted: list[str] = []
        self.kill_in: int | None = None  # steps until the kill

    def point(self) -> None:
        """A point at which the process may be killed."""
        if self.kill_in is not None:
            self.kill_in -= 1
            if self.kill_in < 0:
                self.kill_in = None
                raise Killed

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for moment, name in [*self.in_flight]:
            if moment <= self.now:
                self.in_flight.remove((moment, name))
                self._make(name)

    def _make(self, name: str) -> Host:
        """Idempotent by name, as the contract has it."""
        for host in self.hosts.values():
            if host.name == name:
                return host
        self.serial += 1
        host = Host(f"i-{self.serial}", name, f"192.0.2.{self.serial % 250 + 1}", "running")
        self.hosts[host.id] = host
        return host

    def listing(self) -> list[Host]:
        self.point()
        if self.away:
            raise Unavailable("no answer")
        return [*self.hosts.values()]

    def create(self, name: str, address: str) -> Host:
        self.attempts.append(self.now)
        self.point()
        if self.away or self.lost:
            # Nobody knows whether the request arrived: it did.
            self.in_flight.append((self.now + LATE, name))
            raise Unavailable("no answer")
        if len(self.hosts) >= self.quota:
            raise Quota("no more")
        if self.create_fails:
            raise Failed("no room")
        host = self._make(name)
        self.point()  # made, and not recorded
        return host

    def delete(self, identity: str) -> bool:
        self.point()
        if self.away:
            raise Unavailable("no answer")
        if identity in self.foreign.values():
            raise Foreign("not ours")
        if self.delete_fails:
            raise Failed("locked")
        host = self.hosts.pop(identity, None)
        if host:
            assert host.name not in self.served or host.name in self.drained, f"{host.name} was deleted while it serves"
            self.deleted.append(host.name)
        self.point()
        return host is not None

    def prepare(self, name: str, address: str) -> None:
        self.point()
        if self.slow or name not in self.names():
            raise NotDone("no SSH yet")
        self.point()

    def publish(self, name: str, address: str) -> None:
        self.point()
        self.served.add(name)  # from now on it may get instances
        self.drained.discard(name)

    def drain(self, name: str, address: str) -> None:
        self.point()
        if self.drain_fails and name in self.names():
            raise NotDone("instances are busy")
        self.drained.add(name)
        self.point()

    def names(self) -> set[str]:
        return {host.name for host in self.hosts.values()}


class KillableStore(Store):
    """A record whose writing may be the last that its process does, before or after the file is replaced."""

    cloud: Cloud

    def save(self, record: Record) -> None:
        self.cloud.point()
        super().save(record)
        self.cloud.point()


class Fleet(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        # In memory: the record is written durably, thousands of times.
        self.folder = tempfile.TemporaryDirectory(dir="/dev/shm")
        self.store = KillableStore(Path(self.folder.name, "hosts.json"))
        self.cloud = Cloud()
        object.__setattr__(self.store, "cloud", self.cloud)
        self.wanted = 0

    def teardown(self) -> None:
        """Once the provider works and nothing is wanted, nothing is left: neither hosts nor records."""
        self.heal()
        self.wanted = 0
        for _ in range(12):
            self.cloud.advance(LIMITS.settle)
            self.step()
        assert self.cloud.hosts == {}
        assert self.store.load().hosts == {}
        assert self.cloud.foreign == FOREIGN
        self.folder.cleanup()

    def heal(self) -> None:
        cloud = self.cloud
        cloud.away = cloud.lost = cloud.create_fails = cloud.delete_fails = cloud.slow = cloud.drain_fails = False
        cloud.quota, cloud.kill_in = 99, None

    def step(self) -> list[str]:
        record = self.store.load()
        busy = {name for name, entry in record.hosts.items() if entry.state in ("standby", "serving")}
        clock = lambda: self.cloud.now  # noqa: E731 - of this moment
        return step(self.store, self.cloud.listing, self.cloud, self.wanted, busy, clock, LIMITS)

    @initialize(wanted=st.integers(0, 3))
    def begin(self, wanted: int) -> None:
        self.wanted = wanted

    @rule(wanted=st.integers(0, 5))
    def want(self, wanted: int) -> None:
        self.wanted = wanted

    @rule(seconds=st.sampled_from([1.0, 30.0, 100.0, 400.0]))
    def wait(self, seconds: float) -> None:
        self.cloud.advance(seconds)

    @rule(
        which=st.sampled_from(["away", "lost", "create_fails", "delete_fails", "slow", "drain_fails"]), on=st.booleans()
    )
    def break_or_repair(self, which: str, on: bool) -> None:
        setattr(self.cloud, which, on)

    @rule(quota=st.integers(0, 4))
    def limit_quota(self, quota: int) -> None:
        self.cloud.quota = quota

    @precondition(lambda self: self.cloud.hosts)
    @rule(data=st.data())
    def delete_by_hand(self, data: st.DataObject) -> None:
        del self.cloud.hosts[data.draw(st.sampled_from(sorted(self.cloud.hosts)))]

    @rule(points=st.integers(0, 25))
    def step_and_be_killed(self, points: int) -> None:
        self.cloud.kill_in = points
        try:
            self.step()
        except Killed:
            pass
        finally:
            self.cloud.kill_in = None

    @rule(times=st.integers(1, 3))
    def go_on(self, times: int) -> None:
        for _ in range(times):
            self.cloud.advance(1)
            self.step()

    @rule()
    def scale_in_never_waits(self) -> None:
        """Whatever the provider does, what is not wanted is on its way out after one step."""
        self.step()
        assert self.store.load().count(LIVE) <= min(self.wanted, LIMITS.hosts)

    @rule()
    def serve_again(self) -> None:
        """With a provider that works, the fleet gets what it wants, within its limits."""
        self.heal()
        for _ in range(8):
            self.cloud.advance(HOUR)
            for _ in range(4):
                self.cloud.advance(1)
                self.step()
        assert self.store.load().count(("standby", "serving")) == min(self.wanted, LIMITS.hosts)

    @invariant()
    def the_limits_hold(self) -> None:
        assert len(self.cloud.hosts) <= LIMITS.hosts
        for moment in self.cloud.attempts:
            assert sum(moment <= one < moment + HOUR for one in self.cloud.attempts) <= LIMITS.creations_per_hour

    @invariant()
    def nothing_else_is_touched(self) -> None:
        assert self.cloud.foreign == FOREIGN

    @invariant()
    def every_host_is_explained(self) -> None:
        """By its record, which is older than the host."""
        assert self.cloud.names() <= set(self.store.load().hosts)


Fleet.TestCase.settings = settings(max_examples=40, stateful_step_count=30)
TestFleet = Fleet.TestCase


def a_step(store: Store, cloud: Cloud, wanted: int, busy: frozenset[str] = frozenset()) -> list[str]:
    return step(store, cloud.listing, cloud, wanted, busy, lambda: cloud.now, LIMITS)


def test_from_claimed_to_serving_and_back_to_nothing(tmp_path: Path) -> None:
    store, cloud, states = Store(tmp_path / "hosts.json"), Cloud(), []
    for wanted, busy in [(1, False), (1, False), (1, False), (1, True), (0, True), (0, False), (0, False)]:
        cloud.now += 50
        a_step(store, cloud, wanted, frozenset(["extra-1"] if busy else []))
        states.append([entry.state for entry in store.load().hosts.values()])
    assert states == [["booting"], ["prepared"], ["standby"], ["serving"], ["deleted"], [], []]
    assert cloud.deleted == ["extra-1"]


@pytest.mark.parametrize("error", ["away", "create_fails"])
def test_a_failed_creation_is_tried_again_later_and_later(tmp_path: Path, error: str) -> None:
    store, cloud = Store(tmp_path / "hosts.json"), Cloud()
    setattr(cloud, error, True)
    cloud_list = [*cloud.hosts.values()]
    for _ in range(200):
        step(store, lambda: cloud_list, cloud, 1, (), lambda: cloud.now, LIMITS)
        cloud.now += 1
    gaps = [later - earlier for earlier, later in zip(cloud.attempts, cloud.attempts[1:], strict=False)]
    assert gaps == [10, 20, 40, 80]


def test_attempts_in_an_hour_are_limited(tmp_path: Path) -> None:
    store, cloud = Store(tmp_path / "hosts.json"), Cloud()
    cloud.create_fails = True
    began = cloud.now
    while len(cloud.attempts) <= LIMITS.creations_per_hour:
        a_step(store, cloud, 1)
        cloud.now += 60
    assert cloud.attempts[-1] >= began + HOUR
    assert cloud.attempts[-2] < began + HOUR


def test_what_can_not_be_deleted_counts(tmp_path: Path) -> None:
    store, cloud = Store(tmp_path / "hosts.json"), Cloud()
    for _ in range(4):
        a_step(store, cloud, LIMITS.hosts)
    cloud.delete_fails = True
    a_step(store, cloud, 0)
    cloud.now += HOUR
    a_step(store, cloud, LIMITS.hosts)
    assert len(cloud.names()) == LIMITS.hosts
    cloud.delete_fails = False
    for _ in range(3):
        a_step(store, cloud, LIMITS.hosts)
    assert cloud.names() == {"extra-4", "extra-5", "extra-6"}


def test_a_creation_whose_answer_was_lost_counts_until_it_can_not_succeed(tmp_path: Path) -> None:
    store, cloud = Store(tmp_path / "hosts.json"), Cloud()
    cloud.lost = True
    a_step(store, cloud, 1)
    cloud.lost = False
    a_step(store, cloud, 0)
    cloud.advance(LATE - 1)
    a_step(store, cloud, LIMITS.hosts)
    assert len(cloud.names()) == LIMITS.hosts - 1
    cloud.advance(1)
    assert "extra-1" in cloud.names()
    assert len(cloud.names()) == LIMITS.hosts
    for _ in range(3):
        cloud.advance(LIMITS.settle)
        a_step(store, cloud, LIMITS.hosts)
    assert cloud.names() == {"extra-2", "extra-3", "extra-4"}


def test_scale_in_goes_on_at_a_quota_and_without_the_provider(tmp_path: Path) -> None:
    store, cloud = Store(tmp_path / "hosts.json"), Cloud()
    for _ in range(4):
        a_step(store, cloud, 2)
    cloud.quota, cloud.away = 0, True
    assert a_step(store, cloud, 0) == ["the provider has no list: no answer"]
    assert [entry.state for entry in store.load().hosts.values()] == ["deleted", "deleted"]
    assert cloud.drained == {"extra-1", "extra-2"}
    cloud.away = False
    a_step(store, cloud, 0)
    assert cloud.hosts == {}


def test_a_slow_boot_is_given_up_and_replaced(tmp_path: Path) -> None:
    store, cloud = Store(tmp_path / "hosts.json"), Cloud()
    cloud.slow = True
    a_step(store, cloud, 1)
    cloud.now += LIMITS.boot
    notes = a_step(store, cloud, 1)
    assert any("not ready after 300 s" in note for note in notes)
    assert cloud.deleted == ["extra-1"]
    cloud.now += LIMITS.retry
    a_step(store, cloud, 1)
    assert cloud.names() == {"extra-2"}


def test_a_host_deleted_by_hand_is_replaced(tmp_path: Path) -> None:
    store, cloud = Store(tmp_path / "hosts.json"), Cloud()
    for _ in range(4):
        a_step(store, cloud, 1)
    cloud.hosts.clear()
    a_step(store, cloud, 1)
    cloud.now += LIMITS.missing
    for _ in range(3):
        notes = a_step(store, cloud, 1)
        cloud.now += 1
    assert notes == []
    assert cloud.names() == {"extra-2"}


def test_what_serves_is_kept_when_the_record_is_lost(tmp_path: Path) -> None:
    store, cloud = Store(tmp_path / "hosts.json"), Cloud()
    for _ in range(2):  # prepared, and not published yet
        a_step(store, cloud, 2)
    store.path.unlink()
    a_step(store, cloud, 2, frozenset({"extra-1"}))
    assert store.load().hosts["extra-1"].state == "serving"
    assert cloud.deleted == ["extra-2"]


def test_a_damaged_record_stops_everything(tmp_path: Path) -> None:
    store, cloud = Store(tmp_path / "hosts.json"), Cloud()
    for damage in ("{", "[]", '{"hosts": {"a": {"name": "b", "state": "serving", "since": 0}}, "created": []}'):
        store.path.write_text(damage)
        with pytest.raises(Corrupt):
            a_step(store, cloud, 3)
    assert cloud.attempts == []


def test_a_host_of_another_identity_is_not_ours(tmp_path: Path) -> None:
    """Somebody deleted the host and made one of its name and tag: it is never drained for, prepared or used."""
    store, cloud = Store(tmp_path / "hosts.json"), Cloud()
    for _ in range(4):
        a_step(store, cloud, 1)
    cloud.hosts = {"i-new": Host("i-new", "extra-1", "192.0.2.99", "running")}
    cloud.drained.add("extra-1")
    a_step(store, cloud, 1)
    assert cloud.hosts == {}


def test_the_record_survives_a_round_trip(tmp_path: Path) -> None:
    store = Store(tmp_path / "hosts.json")
    entries = [Entry(f"extra-{number}", state, 1.5, reason="é") for number, state in enumerate(STATES)]
    record = Record({entry.name: entry for entry in entries}, 9, (1.0, 2.0), 3.0, 2)
    store.save(record)
    assert store.load() == record
