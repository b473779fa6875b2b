"""The load balancers: the address moved on purpose, and by the loss of the one that has it."""

from __future__ import annotations

from drills.model import Drill, Scene
from tests.harness.pair import status_of

SECTION = ("A load balancer is taken out on purpose, or lost",)


def move_the_address(scene: Scene) -> dict[str, float]:
    holder, other = scene.pair.roles()
    scene.play("switch", phoenix_master=other)
    assert scene.pair.roles() == (other, holder)
    reported = [status_of(scene.pair.hosts[name])["floating"][scene.pair.address] for name in (holder, other)]
    assert reported == [False, True]
    again = scene.play("switch", phoenix_master=other)
    assert "changed=1" not in again, again[-1500:]
    return {}


def bring_it_home(scene: Scene) -> None:
    scene.play("switch", phoenix_master=scene.first("lb"))


def lose_the_holder(scene: Scene) -> dict[str, float]:
    holder, other = scene.pair.roles()
    with scene.pair.lost(holder, scene.machines[holder]) as took:
        pass
    # It is back, and leaves the address where it serves.
    assert scene.pair.roles() == (other, holder)
    return {"recovered": took}


DRILLS = [
    Drill("switch-balancer", SECTION, move_the_address, clean=bring_it_home, moved=True, quick=True),
    Drill("lose-balancer", SECTION, lose_the_holder, clean=bring_it_home, moved=True),
]
