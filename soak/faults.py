"""The faults: what each one does, and undoes at the end of its block."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from drills import application
from drills.model import Scene
from soak.schedule import Kind
from tests.harness import disk
from tests.harness.autoscaling import capacity_of
from tests.harness.database import another_is_primary, one_primary, primaries
from tests.harness.instances import freeze_and_wait, kill_and_ask, past_start
from tests.harness.machines import cut_off, settled, stopped, without_power
from tests.harness.waiting import wait_for

# Provokes a fault on a host; it lasts while the block runs. Yields what was seen, for the report.
Provoke = Callable[[Scene, str], AbstractContextManager[str]]
RELOADS = 5


@dataclass(frozen=True)
class Fault:
    """A kind of fault. limit_s: within which the fleet has to be as before. lasts: something is away meanwhile.

    moves: a floating address may move, so that requests in flight fail and are sent again.
    """

    kind: Kind
    provoke: Provoke
    limit_s: float
    lasts: bool = True
    moves: bool = False


@contextmanager
def kill_instance(scene: Scene, name: str) -> Iterator[str]:
    yield f"answered after {kill_and_ask(scene.hosts('app')[name]) / 1000:.1f} s"


@contextmanager
def freeze_instance(scene: Scene, name: str) -> Iterator[str]:
    host = scene.hosts("app")[name]
    past_start(host)
    yield f"replaced after {freeze_and_wait(host):.1f} s"


@contextmanager
def stop_application_host(scene: Scene, name: str) -> Iterator[str]:
    with stopped(scene.machines[name], scene.hosts("app")[name]):
        yield ""


@contextmanager
def kill_member(scene: Scene, name: str) -> Iterator[str]:
    scene.hosts("db")[name].check_output("systemctl kill -s KILL mongod")
    yield ""


@contextmanager
def cut_member(scene: Scene, name: str) -> Iterator[str]:
    members = scene.hosts("db")
    was_primary = primaries(members) == [name]
    with cut_off(members[name]):
        took = another_is_primary(members, name)
        yield f"was primary, another one after {took:.1f} s" if was_primary else "was secondary"


@contextmanager
def lose_primary(scene: Scene, _: str) -> Iterator[str]:
    members = scene.hosts("db")
    name = one_primary(members)
    with without_power(scene.machines[name]):
        yield f"{name}, another one after {another_is_primary(members, name):.1f} s"
    wait_for(lambda: settled(members[name]), 120, f"{name} runs again")


@contextmanager
def lose_balancer(scene: Scene, _: str) -> Iterator[str]:
    holder, other = scene.pair.roles()
    with scene.pair.lost(holder, scene.machines[holder]) as took:
        yield f"{holder}, its address on {other} after {took:.1f} s"
    # It comes back, and leaves the address where it serves.
    assert scene.pair.roles() == (other, holder)


@contextmanager
def lose_other_balancer(scene: Scene, _: str) -> Iterator[str]:
    holder, other = scene.pair.roles()
    with without_power(scene.machines[other]):
        yield other
    assert scene.pair.roles() == (holder, other)


@contextmanager
def lose_control(scene: Scene, name: str) -> Iterator[str]:
    with without_power(scene.machines[name]):
        yield ""
    wait_for(lambda: settled(scene.hosts("control")[name]), 180, f"{name} runs again")


@contextmanager
def reload(scene: Scene, _: str) -> Iterator[str]:
    for _number in range(RELOADS):
        for host in scene.hosts("lb").values():
            host.check_output("systemctl reload nginx")
        time.sleep(1)
    yield f"{RELOADS} times"


@contextmanager
def deploy(scene: Scene, _: str) -> Iterator[str]:
    took = application.deploy_and_roll_back(scene)
    yield f"{took['deployed']:.0f} s, and back in {took['recovered']:.0f} s"


@contextmanager
def scale(scene: Scene, _: str) -> Iterator[str]:
    before = capacity_of(scene.inventory)
    try:
        scene.play("scale", phoenix_capacity=before + 1, scale_lock_wait=300)
        yield f"{before} to {before + 1} and back"
    finally:
        scene.play("scale", phoenix_capacity=before, scale_lock_wait=300)


@contextmanager
def fill_disk(scene: Scene, name: str) -> Iterator[str]:
    with disk.full_disk(scene.inventory, name) as took:
        yield f"ended {took:.1f} s after its disk was full"


# A group of the inventory, or `serving`: the application hosts with ordinary instances.
FAULTS = [
    Fault(Kind("instance-killed", "serving", 2), kill_instance, 60, lasts=False),
    Fault(Kind("instance-frozen", "serving", 2), freeze_instance, 90, lasts=False),
    Fault(Kind("app-host-stopped", "serving", 2), stop_application_host, 180),
    Fault(Kind("member-killed", "db", 3), kill_member, 120, lasts=False),
    Fault(Kind("member-cut-off", "db", 3), cut_member, 180),
    Fault(Kind("primary-lost", "db", 3, by_role=True), lose_primary, 240),
    Fault(Kind("disk-full", "db", 3), fill_disk, 300),
    Fault(Kind("balancer-lost", "lb", 2, by_role=True), lose_balancer, 180, moves=True),
    Fault(Kind("second-balancer-lost", "lb", 2, by_role=True), lose_other_balancer, 180),
    Fault(Kind("control-lost", "control"), lose_control, 240),
    Fault(Kind("nginx-reloaded"), reload, 60, lasts=False),
    Fault(Kind("deploy"), deploy, 120, lasts=False),
    Fault(Kind("scale"), scale, 120),
]
