"""What a drill and a provocation are, where they are played, and what came of a drill."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from drills.cuts import Cuts
from tests.harness import plays
from tests.harness.hosts import Hosts, hosts_of
from tests.harness.load import RATE
from tests.harness.machines import machines
from tests.harness.pair import Pair


@dataclass(frozen=True)
class Scene:
    """The running fleet: its inventory's path and its address. cuts: by which each play is killed first, if at all."""

    inventory: str
    url: str
    cuts: Cuts | None = None

    def hosts(self, group: str) -> Hosts:
        """Return inventory name -> testinfra host, as root."""
        return hosts_of(group, self.inventory)

    def first(self, group: str) -> str:
        return next(iter(self.hosts(group)))

    def second(self, group: str) -> str:
        """In the lab an application host that serves, or the balancer that did not make a generated certificate."""
        return list(self.hosts(group))[1]

    def play(self, name: str, *options: str, **variables: Any) -> str:
        """Run a play as an operator does, and return its output. Raises AssertionError where it failed."""
        if self.cuts:
            self.cuts.cut(self.inventory, name, *options, **variables)
        done = plays.run(self.inventory, name, *options, **variables)
        assert done.returncode == 0, f"{name}.yml failed:\n{plays.excerpt(done.stdout)}{done.stderr[-500:]}"
        return done.stdout

    @cached_property
    def machines(self) -> dict[str, Any]:
        return machines()

    @cached_property
    def pair(self) -> Pair:
        return Pair(self.inventory, self.url)


# For a whole run of site.yml: the autoscaler, which is stopped meanwhile, would react to the load.
WITHOUT_AUTOSCALER = ("--skip-tags", "autoscaler")

# Carries a section out and checks its result; returns what it measured, in seconds by name: "recovered" is the time
# until the fleet was as before.
Act = Callable[[Scene], dict[str, float]]


@dataclass(frozen=True)
class Drill:
    """A rehearsal of sections of the runbook.

    act: under load. prepare, clean: before and after it, without load; clean always runs. writer: the group whose first
    host sends the writes, which the drill leaves alone. moved: a floating address moves, so that clients send a request
    once more that was in flight. rotated: the application's password is replaced. quick: one of those that `make test`
    plays.
    inventory: the only one of the lab's inventories on which it can be played; "" where any will do.
    """

    name: str
    sections: tuple[str, ...]
    act: Act
    prepare: Callable[[Scene], None] = lambda scene: None
    clean: Callable[[Scene], None] = lambda scene: None
    writer: str = "control"
    moved: bool = False
    rotated: bool = False
    quick: bool = False
    inventory: str = ""


@dataclass(frozen=True)
class Outcome:
    """What came of a drill. reads, writes: the results of the loads; error: why it failed, or "".

    run: day, version, inventory.
    """

    name: str
    sections: tuple[str, ...]
    seconds: float
    measured: dict[str, float] = field(default_factory=dict)
    reads: dict[str, Any] = field(default_factory=dict)
    writes: dict[str, Any] = field(default_factory=dict)
    equal: bool = False
    error: str = ""
    run: str = ""

    @property
    def wrong(self) -> list[str]:
        """What did not go as it has to; [] where the drill succeeded."""
        found = [self.error] if self.error else []
        if self.reads.get("failed", 1):
            found.append(f"{self.reads.get('failed', 'all')} reads failed: {self.reads.get('failures', [])}")
        # A load that was not sent proves nothing.
        if self.reads.get("sent", 0) < 0.9 * self.reads.get("due", 1):
            found.append(f"only {self.reads.get('sent', 0)} of {self.reads.get('due', '?')} reads were sent")
        # Nor one that ended before the drill: `due` is what was due until then.
        if self.reads.get("due", 0) < 0.9 * RATE * self.seconds:
            found.append(f"the reads ended before the drill, which took {self.seconds:.0f} s")
        if self.writes.get("lost", True):
            found.append(f"acknowledged writes are lost: {self.writes.get('lost', 'all')}")
        if not self.writes.get("acknowledged"):
            found.append("no write was acknowledged")
        if not self.equal:
            found.append("the members' data differ")
        return found


# Entered for a fault, and left for its end.
Fault = Callable[[Scene], AbstractContextManager[None]]


@dataclass(frozen=True)
class Provocation:
    """A fault, or a state that stands for one, and the alarms that it has to raise.

    stage: what has to be there before the fault and until the alarms are over. uses: what its fault shares with others,
    which wait for it. settings: limits that are lowered for it, as the true ones would take too long. real: whether it
    is a fault; else a state is fed. mark: what its message has to name, such as a chart.
    """

    alarms: tuple[str, ...]
    how: str
    act: Fault
    stage: Fault = lambda scene: nullcontext()
    uses: tuple[str, ...] = ()
    settings: Mapping[str, float] = field(default_factory=dict)
    real: bool = True
    mark: str = ""
    raise_s: float = 300
    clear_s: float = 420
