"""Who runs which process: a fleet of keepers with one database, cut off, restored, restarted and left behind."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from phoenix.processes import keeper, model
from phoenix.processes.keeper import Keeper
from phoenix.processes.leases import Unreachable
from phoenix.processes.model import GIVE_UP, LEASE, Lease, Process, Running, Target

WORKER = Process("worker", "node worker.js", "256M", count=3, stop_timeout=8)
NIGHTLY = Process("nightly", "node nightly.js", "256M", calendar="daily", timeout=60)
PROCESSES = {"worker": WORKER, "nightly": NIGHTLY}
FIRST = Target("r1", "c1", 1.0)
TICK = 2.0


@dataclass
class Database:
    """The leases, as a primary with a majority has them."""

    leases: dict[str, Lease] = field(default_factory=dict)

    def restore(self, leases: dict[str, Lease]) -> None:
        self.leases = dict(leases)


@dataclass
class Connection:
    """One host's way to the database. lost: it is written, and the answer does not arrive."""

    database: Database
    up: bool = True
    lost: bool = False

    def _ask(self) -> dict[str, Lease]:
        if not self.up:
            raise Unreachable("no primary")
        return self.database.leases

    def _answer(self, value: bool) -> bool:
        if self.lost:
            raise Unreachable("the answer did not arrive")
        return value

    def read(self) -> dict[str, Lease]:
        return dict(self._ask())

    def renew(self, slot: str, holder: str, target: Target) -> bool:
        lease = self._ask().get(slot)
        if lease is None or lease.holder != holder:
            return self._answer(False)
        self.database.leases[slot] = Lease(holder, lease.number + 1, target.release, target.since)
        return self._answer(True)

    def take(self, slot: str, seen: Lease | None, holder: str, target: Target) -> bool:
        if self._ask().get(slot) != seen:
            return self._answer(False)
        self.database.leases[slot] = Lease(holder, (seen.number if seen else 0) + 1, target.release, target.since)
        return self._answer(True)

    def release(self, slot: str, holder: str) -> bool:
        lease = self._ask().get(slot)
        if lease is None or lease.holder != holder:
            return self._answer(False)
        self.database.leases[slot] = replace(lease, holder="", number=lease.number + 1)
        return self._answer(True)


@dataclass
class Machine:
    """A host's systemd: what is stopped takes all of its time to stop."""

    clock: list[float]
    units: dict[str, tuple[str, float | None]] = field(default_factory=dict)  # slot -> revision, when it will be gone
    busy: set[str] = field(default_factory=set)
    forgotten: list[str] = field(default_factory=list)
    starts: list[str] = field(default_factory=list)

    def running(self) -> dict[str, Running]:
        now = self.clock[0]
        self.units = {slot: unit for slot, unit in self.units.items() if unit[1] is None or unit[1] > now}
        return {
            slot: Running(revision, gone is not None, slot in self.busy)
            for slot, (revision, gone) in self.units.items()
        }

    def start(self, slot: str, process: Process, target: Target) -> None:
        assert slot not in self.running(), "systemd would refuse it"
        self.units[slot] = (target.revision, None)
        self.starts.append(f"{slot} {target.release}")

    def stop(self, slot: str) -> None:
        revision, gone = self.units[slot]
        if gone is None:
            self.units[slot] = (revision, self.clock[0] + WORKER.stop_timeout)

    def forget(self, slot: str) -> None:
        self.forgotten.append(slot)


class Fleet:
    """Hosts whose keepers tick one after the other, and a clock that they share."""

    def __init__(self, hosts: int) -> None:
        self.clock = [0.0]
        self.database = Database()
        self.machines = [Machine(self.clock) for _ in range(hosts)]
        self.connections = [Connection(self.database) for _ in range(hosts)]
        self.targets = [FIRST] * hosts
        self.serves = [True] * hosts
        self.awake = [True] * hosts
        self.processes = PROCESSES
        self.keepers = [self.keeper(number) for number in range(hosts)]

    def keeper(self, number: int) -> Keeper:
        return Keeper(f"app{number}", self.machines[number], lambda: self.clock[0])

    def step(self) -> None:
        for number, one in enumerate(self.keepers):
            if self.awake[number]:
                one.tick(self.connections[number], self.targets[number], self.processes, self.serves[number])
                self.check()
        self.clock[0] += TICK
        self.check()

    def run(self, seconds: float) -> None:
        for _ in range(int(seconds / TICK)):
            self.step()

    def check(self) -> None:
        everywhere = [slot for machine in self.machines for slot in machine.running()]
        assert len(everywhere) == len(set(everywhere)), f"twice at once: {everywhere}"

    def restart(self, number: int) -> None:
        """The keeper dies; what is bound to it is stopped by systemd, within its time."""
        for slot in self.machines[number].running():
            self.machines[number].stop(slot)
        self.keepers[number] = self.keeper(number)

    def where(self) -> dict[str, int]:
        return {slot: number for number, machine in enumerate(self.machines) for slot in machine.running()}


ALL = {"worker@1", "worker@2", "worker@3", "nightly@1"}
LONGEST = LEASE + WORKER.stop_timeout + 20


def settled(hosts: int) -> Fleet:
    fleet = Fleet(hosts)
    fleet.run(LONGEST)
    assert set(fleet.where()) == ALL
    return fleet


def test_every_slot_runs_once_and_they_spread() -> None:
    fleet = settled(4)
    assert sorted(fleet.where().values()) == [0, 1, 2, 3]
    assert set(settled(1).where().values()) == {0}


def test_a_host_that_is_gone_is_replaced_and_one_cut_off_stops_before_that() -> None:
    fleet = settled(2)
    before = {slot for slot, host in fleet.where().items() if host == 0}
    fleet.connections[0].up = False
    fleet.run(GIVE_UP + TICK)
    assert all(unit.stopping for unit in fleet.machines[0].running().values())
    fleet.run(LONGEST)
    assert set(fleet.where()) == ALL and set(fleet.where().values()) == {1}
    assert before <= set(fleet.machines[1].forgotten), "what ran elsewhere was not missed here"


def test_an_election_stops_nothing() -> None:
    fleet = settled(3)
    began = [len(machine.starts) for machine in fleet.machines]
    for connection in fleet.connections:
        connection.up = False
    fleet.run(22)
    for connection in fleet.connections:
        connection.up = True
    fleet.run(120)
    assert [len(machine.starts) for machine in fleet.machines] == began and set(fleet.where()) == ALL


def test_a_host_that_serves_no_more_gives_its_share_to_others() -> None:
    fleet = settled(2)
    fleet.serves[0] = False
    fleet.run(WORKER.stop_timeout + 20)
    assert set(fleet.where()) == ALL and set(fleet.where().values()) == {1}


def test_a_restarted_keeper_goes_on_with_its_own() -> None:
    fleet = settled(2)
    before = fleet.where()
    fleet.restart(0)
    fleet.run(WORKER.stop_timeout + 3 * TICK)
    assert fleet.where() == before


def test_a_new_release_is_started_where_the_former_one_ran_and_a_command_that_runs_is_not_cut() -> None:
    fleet = settled(2)
    before = fleet.where()
    busy = fleet.machines[before["nightly@1"]]
    busy.busy.add("nightly@1")
    fleet.targets = [Target("r2", "c1", 2.0)] * 2
    fleet.run(WORKER.stop_timeout + 3 * TICK)
    assert fleet.where() == before
    revisions = {slot: one.revision for machine in fleet.machines for slot, one in machine.running().items()}
    assert revisions == {**dict.fromkeys(ALL, "r2 c1"), "nightly@1": "r1 c1"}
    busy.busy.clear()
    fleet.run(WORKER.stop_timeout + 3 * TICK)
    assert busy.running()["nightly@1"].revision == "r2 c1"


def test_a_host_that_a_roll_out_left_behind_takes_nothing() -> None:
    fleet = settled(2)
    fleet.targets[0] = Target("r2", "c1", 2.0)
    fleet.serves[1] = False
    fleet.run(30)
    fleet.awake[0] = False  # gone, with its share; the other one was away during the roll-out
    fleet.machines[0].units.clear()
    fleet.serves[1] = True
    fleet.run(3 * LONGEST)
    assert fleet.where() == {}
    fleet.targets[1] = Target("r1", "c1", 3.0)  # and is right again by a rollback
    fleet.run(LONGEST)
    assert set(fleet.where()) == ALL


def test_a_process_that_is_removed_is_stopped_and_its_lease_given_back() -> None:
    fleet = settled(2)
    fleet.processes = {"worker": replace(WORKER, count=1)}
    fleet.run(30)
    assert set(fleet.where()) == {"worker@1"}
    assert fleet.database.leases["worker@3"].holder == fleet.database.leases["nightly@1"].holder == ""


def test_what_cannot_be_started_is_reported_and_tried_again() -> None:
    fleet = Fleet(1)

    def refused(slot: str, process: Process, target: Target) -> None:
        raise keeper.StartError("package.json has no script 'worker'")

    fleet.machines[0].start = refused  # type: ignore[method-assign]
    fleet.run(LONGEST)
    assert "no script" in fleet.keepers[0].error and fleet.where() == {}


def test_a_host_that_stops_gives_back_what_runs_no_more() -> None:
    fleet = settled(2)
    own = {slot for slot, host in fleet.where().items() if host == 0}
    fleet.machines[0].units.clear()  # systemd stops what is bound first
    fleet.keepers[0].leave(fleet.connections[0])
    fleet.awake[0] = False
    fleet.run(20)
    assert own and set(fleet.where()) == ALL


EVENTS = st.one_of(
    st.tuples(
        st.sampled_from(("cut", "lose", "heal", "restart", "sleep", "wake", "leave", "serve")), st.integers(0, 2)
    ),
    st.tuples(st.sampled_from(("snapshot", "restore", "drop", "deploy", "wait", "wait")), st.integers(0, 40)),
)


@settings(deadline=None)
@given(st.lists(EVENTS, max_size=40))
def test_nothing_runs_twice_whatever_happens(events: list[tuple[str, int]]) -> None:
    """A host that sleeps is frozen with all that runs there, and it may not count: it runs nothing meanwhile."""
    fleet = Fleet(3)
    fleet.run(LONGEST)
    snapshot = dict(fleet.database.leases)
    asleep: dict[int, dict[str, tuple[str, float | None]]] = {}
    for what, number in events:
        if what in ("cut", "lose", "heal"):
            fleet.connections[number].up, fleet.connections[number].lost = what != "cut", what == "lose"
        elif what == "restart":
            fleet.restart(number)
        elif what == "sleep" and number not in asleep:
            asleep[number], fleet.machines[number].units = fleet.machines[number].units, {}
            fleet.awake[number] = False
        elif what == "wake" and number in asleep:
            del asleep[number]  # rebooted: its units are transient
            fleet.awake[number], fleet.keepers[number] = True, fleet.keeper(number)
        elif what in ("leave", "serve"):
            fleet.serves[number] = what == "serve"
        elif what == "snapshot":
            snapshot = dict(fleet.database.leases)
        elif what == "restore":
            fleet.database.restore({slot: lease for slot, lease in snapshot.items() if lease.holder})
        elif what == "drop":
            fleet.database.restore({})
        elif what == "deploy":
            fleet.targets = [Target(f"r{number}", "c1", fleet.clock[0] + 1)] * 3
        else:
            fleet.run(number * TICK)
        fleet.step()


def test_the_times_leave_room_for_a_tick_and_a_call_that_hangs() -> None:
    assert GIVE_UP + 2 * TICK + 3 * 5 <= LEASE
    assert GIVE_UP > 22 + model.RENEW + TICK, "the longest election that was measured with default settings"


def test_processes_become_slots() -> None:
    text = '{"worker": {"command": "node w.js", "memory": "1G", "count": 2, "stop_timeout": 3}}'
    assert list(model.slots(model.read(text))) == ["worker@1", "worker@2"]
    assert model.read("") == {}
