"""Roll-outs that are cut anywhere, on a model of the fleet.

The order, the decisions and the way back are the real ones (phoenix.rollout); the model executes them as the tasks of
roles/deploy do. Before each command to a host, something may happen: the play dies, a host is lost, or answers and is
broken, another play takes the lock, control's disk is full, nginx refuses, or nothing that is started becomes healthy,
as without a database.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from phoenix.rollout import decisions, order, plan, reach

SPARE = 3900
GOOD, CRASHES, SICK = "good", "crashes", "sick"  # sick: it starts, and fails clients' requests
FAULTS = ("none", "cut", "host", "broken", "lock", "disk", "reload", "database")


class Failed(Exception):
    """A task failed."""


class Cut(Exception):
    """The play died."""


@dataclass
class Instance:
    """release and configuration are its links; note: what it was last healthy with."""

    release: str
    configuration: str
    active: bool = True
    note: tuple[str, str] | None = None


@dataclass
class Host:
    name: str
    address: str
    current: str = "r0"
    accepted: str = "c0"
    processes: tuple[str, str] = ("r0", "c0")  # what workers run
    written: set[str] = field(default_factory=lambda: {"c0"})  # configurations that lie there
    up: bool = True
    broken: bool = False  # it answers, and every command that acts there fails
    instances: dict[int, Instance] = field(default_factory=dict)

    @property
    def works(self) -> bool:
        return self.up and not self.broken

    def status(self, release: str, configuration: str) -> dict[str, Any]:
        wanted = (release or self.current, configuration or self.accepted)
        return {
            "current": self.current,
            "configuration": self.accepted,
            "releases": ["r0", release],
            "kept": [self.current],
            "processes": ["worker"],
            "instances": [
                {
                    "port": port,
                    "active": one.active,
                    "release": one.release,
                    "stale": one.active and one.note != wanted,
                }
                for port, one in sorted(self.instances.items())
            ],
        }


class Fleet:
    def __init__(self, capacity: int, balancers: int) -> None:
        self.hosts = {f"app{n}": Host(f"app{n}", f"192.0.2.2{n}") for n in (1, 2, 3)}
        self.wanted: dict[str, list[int]] = {"app1": [], "app2": [], "app3": []}
        for turn in range(capacity):
            self.wanted[f"app{turn % 2 + 1}"].append(3000 + turn // 2)
        for name, ports in self.wanted.items():
            for port in [*ports, *([SPARE] if ports else [])]:
                self.hosts[name].instances[port] = Instance("r0", "c0", note=("r0", "c0"))
        self.down: dict[str, set[str]] = {f"lb{n}": set() for n in range(1, balancers + 1)}
        self.drained: list[str] = []
        self.release = "r0"
        self.configuration = dict.fromkeys(self.hosts, "c0")
        self.quality: dict[str, str] = {"r0": GOOD, "c0": GOOD}
        self.token = 0

    def listed(self) -> list[dict[str, Any]]:
        return [
            {"name": one.name, "address": one.address, "ports": self.wanted[one.name]} for one in self.hosts.values()
        ]

    def ordinary(self) -> list[str]:
        return [f"{self.hosts[name].address}:{port}" for name, ports in self.wanted.items() for port in ports]

    def servers(self) -> list[str]:
        """What load balancers know: the ordinary instances, and the spares beside them."""
        spares = [f"{self.hosts[name].address}:{SPARE}" for name, ports in self.wanted.items() if ports]
        return [*self.ordinary(), *spares]

    def instance(self, server: str) -> Instance:
        address, _, port = server.rpartition(":")
        (host,) = (host for host in self.hosts.values() if host.address == address)
        return host.instances[int(port)]

    def is_good(self, one: Instance) -> bool:
        return self.quality[one.release] == self.quality[one.configuration] == GOOD


class Play:
    """Deploys a release, or rolls out a configuration, as roles/deploy does."""

    def __init__(self, fleet: Fleet, share: float, fault: str, at: int, victim: str) -> None:
        self.fleet, self.share, self.fault, self.at, self.victim = fleet, share, fault, at, victim
        fleet.token += 1
        self.token = fleet.token
        self.lost: list[str] = []
        self.out: list[str] = []
        self.was_drained = list(fleet.drained)
        self.before: list[str] = []
        self.stuck: list[str] = []
        self.ticks = 0
        self.checks: list[Any] = []

    def tick(self) -> None:
        """Before each command: what is to happen now, happens."""
        for check in self.checks:
            check()
        self.ticks += 1
        if self.ticks != self.at:
            return
        if self.fault == "cut":
            raise Cut
        if self.fault == "host":
            self.fleet.hosts[self.victim].up = False
        elif self.fault == "broken":
            self.fleet.hosts[self.victim].broken = True
        elif self.fault == "lock":
            self.fleet.token += 1

    def broken(self, kind: str) -> bool:
        return self.fault == kind and self.ticks >= self.at

    # --- commands

    def rotate(self, down: list[str]) -> None:
        self.tick()
        self.renew()
        if self.broken("disk"):
            raise Failed("disk full")
        self.out = list(down)
        down = [*down, *order.also_down(down, self.silent(), self.fleet.listed())]
        self.fleet.drained = list(down)
        for balancer in self.fleet.down:
            self.apply(balancer, down)

    def silent(self) -> list[str]:
        return decisions.silent(self.fleet.listed(), self.lost, self.was_drained, [SPARE])

    def renew(self) -> None:
        if self.fleet.token != self.token:
            raise Failed("lock lost")

    def apply(self, balancer: str, down: list[str]) -> None:
        self.tick()
        if self.broken("reload") and balancer == "lb1":
            raise Failed("nginx refused")
        self.fleet.down[balancer] = set(down) & set(self.fleet.servers())

    def switch(self, step: Any, release: str, configurations: dict[str, str]) -> None:
        failed = []
        for part in step["parts"]:
            self.tick()
            host = self.fleet.hosts[part["host"]]
            if not host.works:
                failed.append(host.name)
                continue
            wanted = configurations.get(host.name) or host.accepted
            if wanted not in host.written:
                failed.append(host.name)
                continue
            for port in part["ports"]:
                one = host.instances[port]
                one.active, one.note = False, None
                self.tick()
                if not host.works:
                    failed.append(host.name)
                    break
                one.release = release
                one.configuration = wanted
                one.active = True
                starts = CRASHES not in (self.fleet.quality[one.release], self.fleet.quality[one.configuration])
                if not starts or self.broken("database"):
                    failed.append(host.name)
                else:
                    one.note = (one.release, one.configuration)
        if failed:
            raise Failed(f"{failed} unhealthy, or can't be reached")

    def watch(self, operation: Any) -> None:
        down = [*operation["down"], *order.also_down(operation["down"], self.silent(), self.fleet.listed())]
        for balancer in self.fleet.down:
            self.apply(balancer, down)
        self.tick()
        if any(not self.fleet.is_good(self.fleet.instance(server)) for server in operation["step"]["servers"]):
            for balancer in self.fleet.down:
                self.fleet.down[balancer] |= set(operation["step"]["servers"])
            raise Failed("the canary did not hold")

    def seen(self, release: str, configurations: dict[str, str], share: float) -> dict[str, Any]:
        self.tick()
        results: list[dict[str, Any]] = []
        for name in reach.left(list(self.fleet.hosts), self.lost):
            host = self.fleet.hosts[name]
            if host.works:
                results.append({"item": name, "rc": 0, "status": host.status(release, configurations.get(name, ""))})
            else:
                results.append({"item": name, **({"rc": 1} if host.up else {"unreachable": True})})
        self.lost = reach.lost(results, [*self.lost, *reach.broken(results)])
        if reach.refusal(reach.wanted(self.fleet.listed()), self.lost, share):
            raise Failed("too few hosts")
        return {result["item"]: result["status"] for result in results if "status" in result}

    def activate(self, hosts: list[str], release: str, configurations: dict[str, str]) -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = []
        for name in hosts:
            self.tick()
            host = self.fleet.hosts[name]
            if host.works:
                host.current, host.accepted = release, configurations.get(name) or host.accepted
            results.append({"item": name, **({"rc": int(host.broken)} if host.up else {"unreachable": True})})
        if any(result.get("rc") for result in results):
            raise Failed("new instances get it on some hosts alone")
        return results

    def switch_processes(self, statuses: Any, release: str, configurations: dict[str, str]) -> None:
        failed = []
        for name in reach.left(decisions.holding(statuses, release), self.lost):
            self.tick()
            host = self.fleet.hosts[name]
            if not host.up:
                self.lost.append(name)
                continue
            if host.broken:
                failed.append(name)
                continue
            host.processes = (release, configurations.get(name) or host.accepted)
            if CRASHES in (self.fleet.quality[which] for which in host.processes) or self.broken("database"):
                failed.append(name)
        if failed or reach.refusal(reach.wanted(self.fleet.listed()), self.lost, 0.5):
            raise Failed(f"processes on {failed}, or too few hosts")

    def record(self, release: str, configurations: dict[str, str]) -> None:
        self.tick()
        if self.broken("disk"):
            raise Failed("disk full")
        self.fleet.release = release
        self.tick()
        self.fleet.configuration = dict(configurations)

    # --- the tasks of roles/deploy

    def run(self, release: str, changed: dict[str, str]) -> bool:
        """locked.yml; whether it went well."""
        fleet = self.fleet
        former, recorded = dict(fleet.configuration), fleet.release
        target = {**former, **changed}
        try:
            statuses = self.seen(release, target, 0.5)
        except Failed:
            return False
        self.out = list(fleet.drained)
        found = plan.plan(statuses, fleet.listed(), release, [SPARE], self.share, fleet.drained)
        elsewhere = release != recorded or decisions.changed(target, former)
        returning = [server for server in fleet.drained if server not in self.silent()]
        if not decisions.needed(found, statuses, release, recorded, target, returning):
            return True
        try:
            for operation in order.forward(found, list(fleet.drained), fleet.listed(), decisions.processes(statuses)):
                if operation["do"] == "rotate":
                    self.rotate(operation["down"])
                elif operation["do"] == "switch":
                    self.switch(operation["step"], release, target)
                elif operation["do"] == "watch":
                    self.watch(operation)
                elif operation["do"] == "processes":
                    self.switch_processes(statuses, release, target)
                else:
                    self.finish(statuses, release, former, target)
        except Failed:
            if elsewhere:
                self.undo(recorded, former)
            return False
        return True

    def finish(self, statuses: Any, release: str, former: dict[str, str], target: dict[str, str]) -> None:
        self.rotate([])
        results = self.activate(decisions.holding(statuses, release), release, target)
        self.lost = reach.lost(results, self.lost)
        if reach.refusal(reach.wanted(self.fleet.listed()), self.lost, 0.5):
            raise Failed("too few hosts")
        self.record(release, decisions.accepted(former, target, results))

    def undo(self, recorded: str, former: dict[str, str]) -> None:
        self.was_drained = []
        try:
            self.tick()
            self.renew()
            self.out = list(self.fleet.drained)
            self.before = before = list(self.out)
            statuses = self.seen(recorded, former, 0)
            try:
                self.switch_processes(statuses, recorded, former)
            except Failed as error:
                self.stuck.append(str(error))
            found = plan.plan(statuses, self.fleet.listed(), recorded, [SPARE], self.share, before)
            for step in order.back(found):
                try:
                    self.rotate(order.down(self.out, step, self.fleet.listed()))
                    self.switch(step, recorded, former)
                    self.out = [server for server in self.out if server not in step["servers"]]
                except Failed:
                    self.stuck += step["servers"]
                    self.out = decisions.capped(self.out, before)
            silent = decisions.silent(self.fleet.listed(), self.lost, last_ports=[SPARE])
            self.rotate(order.down(self.out, {"servers": silent}, self.fleet.listed()))
            self.record(recorded, former)
            self.activate(decisions.holding(statuses, recorded), recorded, former)
        except Failed as error:
            self.stuck.append(str(error))


@settings(max_examples=150, stateful_step_count=8, deadline=None)
class CutAnywhere(RuleBasedStateMachine):
    @initialize(capacity=st.integers(2, 6), balancers=st.integers(1, 2))
    def begin(self, capacity: int, balancers: int) -> None:
        self.fleet = Fleet(capacity, balancers)
        self.names = 0
        self.reported: set[str] = set()  # servers that a play could not bring back, and said so
        self.unknown = False  # a play died, or lost lock, disk or nginx in the middle

    def all_bad(self) -> set[str]:
        return {name for name, quality in self.fleet.quality.items() if quality != GOOD}

    @rule(
        what=st.sampled_from(["deploy", "roll"]),
        quality=st.sampled_from([GOOD, CRASHES, SICK]),
        share=st.sampled_from([0.0, 0.25, 0.5]),
        fault=st.sampled_from(FAULTS),
        at=st.integers(1, 60),
        victim=st.sampled_from(["app1", "app2", "app3"]),
    )
    def play(self, what: str, quality: str, share: float, fault: str, at: int, victim: str) -> None:
        self.names += 1
        name = f"{'r' if what == 'deploy' else 'c'}{self.names}"
        self.fleet.quality[name] = quality
        running = Play(self.fleet, share, fault, at, victim)
        running.checks = [self.an_upstream_is_never_empty, self.the_refused_is_with_no_more_than_a_step]
        # site.yml writes it on the hosts that answer, and knows it of no other.
        changed = {host.name: name for host in self.fleet.hosts.values() if host.works} if what == "roll" else {}
        for host in changed:
            self.fleet.hosts[host].written.add(name)
        try:
            good = running.run(name if what == "deploy" else self.fleet.release, changed)
        except Cut:
            self.unknown = True
            return
        self.unknown |= fault in ("lock", "disk", "reload", "database") and running.ticks >= at
        self.reported |= {server for server in running.stuck if ":" in server}
        if running.before:
            silent = decisions.silent(self.fleet.listed(), running.lost, last_ports=[SPARE])
            assert len(set(running.out) - set(silent)) <= len(running.before), "the way back takes more out"
        if good:
            self.what_answers_is_what_was_rolled_out(name)
        calm = fault == "none" and all(host.works for host in self.fleet.hosts.values()) and not self.unknown
        if quality != GOOD:
            assert not good, "what fails was accepted"
            if calm:
                running_now = [self.fleet.instance(server) for server in self.fleet.ordinary()]
                assert name not in {which for one in running_now for which in (one.release, one.configuration)}
        elif calm:
            assert good, "what is good was refused"

    def what_answers_is_what_was_rolled_out(self, name: str) -> None:
        """Also of hosts that did not answer: what may return with the former release or configuration is out."""
        for balancer, down in self.fleet.down.items():
            for server in set(self.fleet.servers()) - down:
                one = self.fleet.instance(server)
                # What does not run is started with what the host has accepted, and found healthy, before it serves.
                if one.active:
                    assert name in (one.release, one.configuration), f"{balancer} sends requests to {server}: {one}"

    @rule(name=st.sampled_from(["app1", "app2", "app3"]))
    def a_host_restarts(self, name: str) -> None:
        """It comes back with what each instance's links say."""
        host = self.fleet.hosts[name]
        host.up, host.broken = True, False
        for one in host.instances.values():
            one.active = True

    @rule()
    def the_next_run_converges(self) -> None:
        """site.yml: it starts what is missing, applies the upstreams, and rolls out what is recorded."""
        fleet = self.fleet
        fleet.down = {balancer: set(fleet.drained) & set(fleet.servers()) for balancer in fleet.down}
        for host in fleet.hosts.values():
            host.up, host.broken = True, False
            host.written.add(fleet.configuration[host.name])
            for one in host.instances.values():
                if not one.active:
                    one.active, one.release, one.configuration = True, host.current, host.accepted
                    one.note = (one.release, one.configuration) if fleet.is_good(one) else None
        assert Play(fleet, 0.25, "none", 0, "app1").run(fleet.release, {})
        for host in fleet.hosts.values():
            assert (host.current, host.accepted) == (fleet.release, fleet.configuration[host.name])
            assert host.processes == (fleet.release, fleet.configuration[host.name])
            for one in host.instances.values():
                assert (one.release, one.configuration) == (fleet.release, fleet.configuration[host.name])
                assert one.note == (one.release, one.configuration)
        assert fleet.drained == []
        assert not any(fleet.down.values())
        self.reported, self.unknown = set(), False

    @rule()
    def what_answers_is_brought_back_without_secrets(self) -> None:
        """reconcile.yml: as site.yml, on the hosts that answer; a configuration comes from one that has it."""
        fleet = self.fleet
        up = [host for host in fleet.hosts.values() if host.works]
        away_now = [one.name for one in fleet.hosts.values() if not one.works]
        if reach.refusal(reach.wanted(fleet.listed()), away_now, 0.5):
            return
        for host in up:
            recorded = fleet.configuration[host.name]
            if recorded not in host.written:
                if not any(recorded in other.written for other in up):
                    return  # none of them answers: the timer tries again
                host.written.add(recorded)
        fleet.down = {balancer: set(fleet.drained) & set(fleet.servers()) for balancer in fleet.down}
        for host in up:
            for one in host.instances.values():
                if not one.active:
                    one.active, one.release, one.configuration = True, fleet.release, fleet.configuration[host.name]
                    one.note = (one.release, one.configuration)
        assert Play(fleet, 0.25, "none", 0, "app1").run(fleet.release, {})
        for host in up:
            wanted = (fleet.release, fleet.configuration[host.name])
            assert (host.current, host.accepted) == host.processes == wanted
            for one in host.instances.values():
                assert (one.release, one.configuration) == one.note == wanted
        away = {host.address for host in fleet.hosts.values() if not host.works}
        assert {server.rpartition(":")[0] for server in fleet.drained} <= away

    @invariant()
    def what_is_refused_is_accepted_nowhere(self) -> None:
        """Neither recorded, nor what new instances on a host get: however a play ended."""
        if not hasattr(self, "fleet"):
            return
        bad = self.all_bad()
        assert self.fleet.release not in bad
        assert not bad & set(self.fleet.configuration.values())
        for host in self.fleet.hosts.values():
            assert not bad & {host.current, host.accepted}

    @invariant()
    def what_is_refused_is_left_running_nowhere(self) -> None:
        """Those apart that are recorded as out of rotation, or reported, and those of a play that was broken off."""
        if not hasattr(self, "fleet") or self.unknown:
            return
        for server in self.fleet.ordinary():
            one = self.fleet.instance(server)
            if {one.release, one.configuration} & self.all_bad():
                assert server in {*self.fleet.drained, *self.reported}, server

    def an_upstream_is_never_empty(self) -> None:
        """Where hosts are lost, the only canary left may have failed: then its host's spare answers."""
        whole = all(host.works for host in self.fleet.hosts.values())
        for balancer, down in self.fleet.down.items():
            servers = self.fleet.ordinary() if whole and not self.unknown else self.fleet.servers()
            assert set(servers) - down, f"{balancer} has no server"

    def the_refused_is_with_no_more_than_a_step(self) -> None:
        """A bad one reaches the canary, and nobody else, whatever happens meanwhile."""
        bad = self.all_bad()
        by_name: dict[str, list[str]] = {}
        for server in self.fleet.ordinary():
            one = self.fleet.instance(server)
            for name in {one.release, one.configuration} & bad:
                by_name.setdefault(name, []).append(server)
        assert all(len(servers) == 1 for servers in by_name.values()), by_name
        spares = [host.instances[SPARE] for host in self.fleet.hosts.values() if SPARE in host.instances]
        assert not any({one.release, one.configuration} & bad for one in spares), "a spare has what the canary refuses"


TestCutAnywhere = CutAnywhere.TestCase
