"""The daemon as a whole, without a fleet: datagrams over a real socket, a target that only takes notes."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from phoenix.autoscaler import config, daemon, state
from phoenix.autoscaler.action import Actions, Result
from phoenix.autoscaler.metrics import Metrics
from phoenix.provider import demand, lifecycle
from phoenix.state import desired
from phoenix.state import hold as capacity_hold
from phoenix.state import lock as fleet_lock
from tests.unit.shared import Clock


class Fleet:
    """A target that records the capacity, or has the results that a test prepares."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.runs, self.results = folder, [], []  # type: ignore[var-annotated]

    def scale_to(self, count: int, timeout: float) -> Result:
        self.runs.append(("scale", count))
        return self._record(count)

    def recount(self, timeout: float) -> Result:
        self.runs.append(("recount", None))
        return self._record(5)

    def _record(self, capacity: int) -> Result:
        result: Result = self.results.pop(0) if self.results else Result(True, "done")
        if result.good:
            (self.folder / "capacity").write_text(str(capacity))
        return result


class World:
    """A daemon with everything around it; time passes only by pass_time()."""

    def __init__(self, folder: Path) -> None:
        for name in ("state", "own"):
            (folder / name).mkdir()
        self.folder, self.clock = folder / "state", Clock(1000.0)
        self.fleet = Fleet(self.folder)
        (self.folder / "capacity").write_text("2\n")
        self.config = config.Config.model_validate(
            {
                "policy": {"minimum": 2, "maximum": 12, "stabilisation_seconds": 120},
                "listen": {"address": "127.0.0.1", "port": 5140, "balancers": ["192.0.2.11", "192.0.2.12"]},
                "paths": {"state": str(self.folder), "own": str(folder / "own")},
                "action": {"retry_seconds": 2},
            }
        )
        self.number = 0
        self.start()

    def start(self) -> None:
        actions = Actions(self.fleet, self.config.action, self.clock)
        self.daemon = daemon.Daemon(self.config, actions, state.FleetLock(self.folder), Metrics(), self.clock)

    async def pass_time(self, seconds: float, rate: float, silent: str = "", open_each: int = 0) -> None:
        due = 0.0
        for step in range(int(seconds * 4)):
            self.clock.now += 0.25
            due += rate / 4
            while due >= 1:
                due -= 1
                self.number += 1
                datagram = b"<190>Nov 24 12:00:00 phoenix: r %d 1" % self.number
                self.daemon.meter.receive(datagram, "192.0.2.11", self.clock.now)
            if step % 4 == 0:
                for balancer in {"192.0.2.11", "192.0.2.12"} - {silent}:
                    beat = b"<190>Nov 24 12:00:00 phoenix: b %d" % open_each
                    self.daemon.meter.receive(beat, balancer, self.clock.now)
            self.daemon.step()
            if self.daemon.actions.task is not None:
                await asyncio.wait([self.daemon.actions.task])


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_out_and_in_again(world: World) -> None:
    async def run() -> None:
        await world.pass_time(70, 5)
        assert world.fleet.runs == []
        await world.pass_time(30, 60)
        assert world.fleet.runs == [("scale", 6)]
        await world.pass_time(240, 5)
        assert world.fleet.runs == [("scale", 6), ("scale", 2)]

    asyncio.run(run())
    world.daemon.report()
    kept = [one["action"] for one in world.daemon.decisions.last(100) if one["action"] != "hold"]
    assert kept == ["out", "in"]
    status = json.loads((world.config.paths.own / "status.json").read_text())
    assert status["capacity"] == 2
    assert status["decisions"][-1]["reason"]
    assert "phoenix_autoscaler_capacity 2.0" in (world.config.paths.own / "autoscaler.prom").read_text()


def test_hosts_on_demand_are_scaled_onto_as_they_come_and_go(world: World, tmp_path: Path) -> None:
    record = demand.Store(tmp_path / "hosts.json")

    def hosts(*states: str) -> None:
        found = {f"extra-{n}": lifecycle.Entry(f"extra-{n}", s, 0) for n, s in enumerate(states, 1)}
        record.save(lifecycle.Record(found))

    limits = {"hosts": 2, "instances_per_host": 4, "record": str(record.path)}
    world.config = config.Config.model_validate({**world.config.model_dump(mode="json"), "room": 4, "demand": limits})
    world.start()
    needed: list[int] = []

    async def run() -> None:
        await world.pass_time(70, 5)
        await world.pass_time(30, 100)
        needed.append(world.daemon.status(world.clock.now)["needed"])
        hosts("standby", "booting")
        await world.pass_time(10, 100)
        hosts("serving", "serving")
        await world.pass_time(10, 100)
        record.path.write_text("{")  # what was known holds
        await world.pass_time(10, 100)
        hosts("serving", "draining")
        await world.pass_time(2, 100)

    asyncio.run(run())
    assert needed == [10]
    assert world.fleet.runs == [("scale", 4), ("scale", 8), ("scale", 10), ("scale", 8)]


def test_open_requests_of_both_balancers_have_their_capacity(world: World) -> None:
    policy = replace(world.config.policy, open_target=100)
    world.daemon.reconfigure(world.config.model_copy(update={"policy": policy}))

    async def run() -> None:
        await world.pass_time(70, 5, open_each=80)
        assert world.fleet.runs == []
        await world.pass_time(30, 5, open_each=210)
        assert world.fleet.runs == [("scale", 5)]
        # Those of a balancer that died come back at the other.
        await world.pass_time(60, 5, silent="192.0.2.12", open_each=420)
        assert world.fleet.runs == [("scale", 5)]
        await world.pass_time(400, 5, open_each=80)
        assert world.fleet.runs == [("scale", 5), ("scale", 2)]

    asyncio.run(run())
    world.daemon.report()
    assert json.loads((world.config.paths.own / "status.json").read_text())["open_requests"] == 160
    assert "phoenix_autoscaler_open_requests 160.0" in (world.config.paths.own / "autoscaler.prom").read_text()


def test_maintenance_is_no_reason_to_shrink(world: World) -> None:
    async def run() -> None:
        await world.pass_time(100, 60)
        assert world.fleet.runs == [("scale", 6)]
        desired.maintain(True, world.folder)
        await world.pass_time(600, 0)
        assert "maintenance" in world.daemon.frozen
        desired.maintain(False, world.folder)
        await world.pass_time(120, 60)
        assert world.fleet.runs == [("scale", 6)]
        assert world.daemon.frozen == ""

    asyncio.run(run())


def test_a_silent_balancer_keeps_it_from_shrinking(world: World) -> None:
    async def run() -> None:
        await world.pass_time(70, 60)
        await world.pass_time(300, 5, silent="192.0.2.12")

    asyncio.run(run())
    assert world.fleet.runs == [("scale", 6)]
    assert world.daemon.decision is not None
    assert "no datagrams from 192.0.2.12" in world.daemon.decision.reason


def withheld(world: World) -> float:
    world.daemon.report()
    lines = (world.config.paths.own / "autoscaler.prom").read_text().splitlines()
    return float(next(line for line in lines if line.startswith("phoenix_autoscaler_withheld ")).split()[1])


def test_frozen_by_a_deploy_and_catches_up(world: World) -> None:
    async def run() -> None:
        await world.pass_time(30, 5)
        token, _ = fleet_lock.acquire(world.folder, "ann", "deploy", 600)
        await world.pass_time(20, 5)
        assert withheld(world) == 0, "what runs is enough"
        await world.pass_time(20, 60)
        assert world.fleet.runs == []
        assert withheld(world) == 4
        fleet_lock.release(world.folder, token)
        await world.pass_time(1, 60)
        assert world.fleet.runs == [("scale", 6)]
        assert withheld(world) == 0

    asyncio.run(run())


def test_instances_that_its_own_action_adds_are_not_withheld(world: World) -> None:
    async def acting() -> Result:
        return await asyncio.sleep(600, Result(True, "done"))

    async def run() -> None:
        await world.pass_time(30, 5)
        fleet_lock.acquire(world.folder, "autoscaler", "scale", 600)
        world.daemon.actions.pending, world.daemon.actions.task = 6, asyncio.create_task(acting())
        world.daemon.step()
        assert withheld(world) == 0
        world.daemon.actions.task.cancel()

    asyncio.run(run())


def test_an_operators_hold_freezes_and_a_released_one_does_not(world: World) -> None:
    async def run() -> None:
        await world.pass_time(30, 5)
        capacity_hold.begin(capacity_hold.Hold(time.time() + 600, "ann", "a rehearsal"), world.folder)
        await world.pass_time(20, 60)
        assert world.fleet.runs == []
        assert world.daemon.status(world.clock())["frozen"].startswith("held by ann until ")
        capacity_hold.end(world.folder)
        await world.pass_time(1, 60)
        assert world.fleet.runs == [("scale", 6)]

    asyncio.run(run())


def test_a_schedules_minimum_is_reached_and_shown(world: World) -> None:
    entry = {"cron": "0 8 * * *", "minutes": 60, "minimum": 5}
    world.config = world.config.model_copy(update={"schedule": [entry]})
    world.start()
    day = [7 * 3600.0]  # 7:00 UTC
    world.daemon.wall_clock = lambda: day[0]

    async def run() -> None:
        await world.pass_time(10, 5)
        assert world.fleet.runs == []
        day[0] += 3600
        await world.pass_time(2, 5)
        assert world.fleet.runs == [("scale", 5)]
        status = world.daemon.status(world.clock())
        assert (status["minimum"], status["minimum_by"]) == (
            5,
            "the schedule '0 8 * * *' until 1970-01-01 09:00 UTC",
        )
        assert "at the minimum of the schedule" in status["explanation"]
        day[0] += 3600
        await world.pass_time(240, 5)
        assert world.fleet.runs == [("scale", 5), ("scale", 2)]

    asyncio.run(run())


def test_failures_are_tried_again_after_a_pause(world: World) -> None:
    world.fleet.results = [Result(False, "unreachable"), Result(False, "unreachable")]

    async def run() -> None:
        await world.pass_time(30, 5)
        await world.pass_time(20, 60)

    asyncio.run(run())
    assert world.fleet.runs == [("scale", 6)] * 3
    assert world.daemon.actions.failed == 2


def test_restarts_of_nginx_hide_no_load(world: World) -> None:
    async def run() -> None:
        await world.pass_time(40, 60)
        for _ in range(3):
            world.number = 0  # nginx numbers its connections from 1 again
            await world.pass_time(120, 60)

    asyncio.run(run())
    assert world.fleet.runs == [("scale", 6)]
    assert world.daemon.meter.counters.duplicates == 0


def test_a_host_left_out_is_tried_again(world: World) -> None:
    world.fleet.results = [Result(True, "done", left_out={"app2": "no answer"})]

    async def run() -> None:
        await world.pass_time(30, 5)
        await world.pass_time(30, 60)
        assert world.daemon.status(world.clock())["left_out"] == {"app2": "no answer"}
        await world.pass_time(60, 60)

    asyncio.run(run())
    assert world.fleet.runs == [("scale", 6)] * 2
    assert world.daemon.repair.left_out == {}


@pytest.mark.parametrize("content", ["rubbish", None])
def test_a_lost_capacity_is_counted_on_the_fleet(world: World, content: str | None) -> None:
    (world.folder / "capacity").write_text(content) if content else (world.folder / "capacity").unlink()
    asyncio.run(world.pass_time(3, 5))
    assert world.fleet.runs == [("recount", None)]
    assert world.daemon.capacity == 5


def test_the_capacity_of_an_operator_is_taken_over(world: World) -> None:
    async def run() -> None:
        await world.pass_time(30, 5)
        (world.folder / "capacity").write_text("4")
        await world.pass_time(30, 5)

    asyncio.run(run())
    assert world.daemon.capacity == 4
    assert world.fleet.runs == []


def test_a_restart_forgets_nothing_that_matters(world: World) -> None:
    async def run() -> None:
        await world.pass_time(70, 60)
        world.start()
        await world.pass_time(30, 5)
        assert world.fleet.runs == [("scale", 6)]

    asyncio.run(run())
    assert [one["action"] for one in world.daemon.decisions.last(100)].count("out") == 1


@contextlib.contextmanager
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs,
    ):
        ours.bind(("127.0.0.1", 0))
        theirs.connect(ours.getsockname())
        yield ours, theirs


def test_runs_and_ends(world: World) -> None:
    notified: list[str] = []
    world.daemon.meter.rebalance(["127.0.0.1"])

    async def run(ours: socket.socket, theirs: socket.socket) -> None:
        running = asyncio.create_task(world.daemon.run(ours, notified.append))
        await asyncio.sleep(0.1)
        for number in range(100):
            theirs.send(b"<190>Nov 24 12:00:00 phoenix: r %d 1" % number)
        theirs.send(b"rubbish")
        await asyncio.sleep(0.4)
        world.daemon.stopping = True
        await running

    with sockets() as (ours, theirs):
        # What waited while no daemon ran has no known arrival time.
        for number in range(daemon.AT_ONCE // 20):
            theirs.send(b"<190>Nov 24 12:00:00 phoenix: r %d 2" % number)
        asyncio.run(run(ours, theirs))
    assert world.daemon.meter.counters.requests == 100
    assert world.daemon.meter.counters.malformed == 1
    assert notified[0] == "READY=1"
    assert "WATCHDOG=1" in notified
    assert notified[-1] == "STOPPING=1"


def test_a_backlog_after_a_nap_is_no_jump(world: World) -> None:
    world.daemon.meter.rebalance(["127.0.0.1"])
    with sockets() as (ours, theirs):
        ours.setblocking(False)
        for nap, counted in ((0.0, 0), (0.5, 1), (30.0, 1), (0.5, 2)):
            world.clock.now += nap
            theirs.send(b"<190>Nov 24 12:00:00 phoenix: r %d 1" % world.clock.now)
            world.daemon.drain(ours)
            assert world.daemon.meter.counters.requests == counted


def test_a_reload_activates_the_new_configuration(world: World) -> None:
    listen = world.config.listen.model_copy(update={"balancers": ["192.0.2.13"]})
    notified: list[str] = []
    world.daemon.reload(lambda: world.config.model_copy(update={"listen": listen, "room": 8}), notified.append)
    assert world.daemon.meter.silent(world.clock(), 3.0) == ["192.0.2.13"]
    assert world.daemon.settings.maximum == 8
    assert [message.split("\n")[0] for message in notified] == ["RELOADING=1", "READY=1"]


def test_a_reload_with_a_longer_window_keeps_the_rate(world: World) -> None:
    """Of a meter that keeps its size, a window of twice the length holds half the requests."""

    def at(seconds: int) -> config.Config:
        return world.config.model_copy(update={"policy": replace(world.config.policy, long_seconds=seconds)})

    def rate() -> float:
        known = min(world.daemon.meter.known_seconds(world.clock()), world.daemon.settings.long_seconds)
        return world.daemon.meter.count(known) / known

    async def run() -> None:
        world.config = at(60)
        world.start()
        await world.pass_time(100, 20)
        world.daemon.reload(lambda: at(120), lambda _: None)
        assert rate() == pytest.approx(20, rel=0.02)
        await world.pass_time(60, 20)
        assert world.daemon.meter.known_seconds(world.clock()) >= 120
        assert rate() == pytest.approx(20, rel=0.02)

    asyncio.run(run())
    assert world.daemon.settings.long_seconds == 120


def test_a_reload_serves_the_metrics_where_they_are_to_be_now(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def answers(port: int) -> bool:
        with socket.socket() as asked:
            return asked.connect_ex(("127.0.0.1", port)) == 0

    def at(port: int) -> config.Config:
        return world.config.model_copy(update={"metrics": config.Metrics(port=port)})

    first, second = free_port(), free_port()
    world.daemon.reload(lambda: at(first), lambda _: None)
    assert answers(first)
    world.daemon.reload(lambda: at(second), lambda _: None)
    assert answers(second) and not answers(first)
    world.daemon.reload(lambda: at(second), lambda _: None)
    assert answers(second)
    world.daemon.metrics.close()
    assert not answers(second) and not [one for one in caplog.records if one.levelname != "INFO"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_what_a_reload_can_not_change_stays_as_it_was(world: World, caplog: pytest.LogCaptureFixture) -> None:
    listen = world.config.listen.model_copy(update={"port": 5141, "silent_seconds": 9.0})
    paths = config.Paths(state=Path("/elsewhere"), own=Path("/elsewhere"))
    changed = world.config.model_copy(update={"listen": listen, "paths": paths, "room": 8})
    world.daemon.reload(lambda: changed, lambda _: None)
    now = world.daemon.config
    assert (now.listen.port, now.paths) == (5140, world.config.paths), "neither what is bound nor what is written"
    assert (now.listen.silent_seconds, world.daemon.settings.maximum) == (9.0, 8)
    assert [one for one in caplog.messages if "systemctl restart phoenix-autoscaler" in one]


def test_a_reload_rejects_an_invalid_configuration(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def load() -> config.Config:
        raise ValueError("autoscaler.yml has 1 error(s)")

    notified: list[str] = []
    world.daemon.reload(load, notified.append)
    assert world.daemon.config is world.config
    assert "configuration rejected, the old one stays" in caplog.messages
    assert notified[-1] == "READY=1"


def test_a_maximum_that_the_hosts_do_not_hold_is_limited(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.config = world.config.model_copy(update={"room": 4})
    world.start()

    async def run() -> None:
        await world.pass_time(30, 5)
        await world.pass_time(30, 150)

    asyncio.run(run())
    assert world.fleet.runs == [("scale", 4)]
    status = world.daemon.status(world.clock())
    assert (status["maximum"], status["at_maximum"]) == (4, True)
    assert status["warning"].startswith("autoscaler_maximum is 12, but the application hosts hold 4 instances")
    assert status["warning"] in caplog.messages


def test_hosts_left_out_are_due_after_pauses_that_double() -> None:
    repair, now, pauses = daemon.Repair(), 1000.0, []
    assert not repair.due(now)
    for _ in range(6):
        repair.note({"app2": "no answer"}, now)
        began = now
        while not repair.due(now):
            now += 1
        pauses.append(now - began)
    assert pauses == [60, 120, 240, 480, 600, 600]
    repair.note({}, now)
    assert not repair.due(now + 1e6)
    repair.note({"app2": "no answer"}, now)
    assert not repair.due(now + 59)
    assert repair.due(now + 60)


def test_drops_of_the_kernel(tmp_path: Path) -> None:
    table = tmp_path / "udp"
    table.write_text(
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt uid timeout inode ref ptr drops\n"
        "  1: 00000000:1414 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 123 2 0000 17\n"
        "  2: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 124 2 0000 5\n"
    )
    assert daemon.drops([table, tmp_path / "absent"], 5140) == 17


def test_an_occupied_port_costs_the_endpoint_only() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        Metrics().serve("127.0.0.1", taken.getsockname()[1])
