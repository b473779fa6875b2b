"""The load balancers: the address moved on purpose, and by the loss of the one that has it; one replaced, one added."""

from __future__ import annotations

import time

from drills.model import WITHOUT_AUTOSCALER, Drill, Scene
from tests.harness.machines import add, replace, take_out
from tests.harness.pair import Pair, status_of

LOST = "A load balancer is taken out on purpose, or lost"
SECTION = (LOST,)
ADDED_OR_REPLACED = (LOST, "A host is added, replaced or removed")


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


def give_it_to_the_second(scene: Scene) -> None:
    scene.play("switch", phoenix_master=scene.second("lb"))


def replace_the_holder(scene: Scene) -> dict[str, float]:
    """The second one, while it has the address: removed, and an empty one in its place, which clients find no other."""
    name, known = scene.second("lb"), scene.pair.certificates()
    assert scene.pair.holders() == [name]
    began = time.monotonic()
    scene.play("remove-host", phoenix_host=name)
    assert scene.pair.holders() == [scene.first("lb")]
    replace(scene.inventory, name)
    scene.play("replace-host", *WITHOUT_AUTOSCALER, phoenix_host=name)
    assert scene.pair.roles() == (scene.first("lb"), name)
    assert scene.pair.certificates() == known
    taken = time.monotonic() - began
    give_it_to_the_second(scene)
    assert scene.pair.holders() == [name]
    return {"recovered": taken}


def add_a_balancer(scene: Scene) -> dict[str, float]:
    """A third one, which then has the address; and for good out of the fleet again."""
    known = scene.pair.certificates()
    began = time.monotonic()
    name = add(scene.inventory, "lb")
    scene.play("add-host", *WITHOUT_AUTOSCALER, phoenix_host=name)
    added = time.monotonic() - began
    all_of_them = Pair(scene.inventory, scene.url)
    assert all_of_them.certificates() == known
    scene.play("switch", phoenix_master=name)
    assert all_of_them.holders() == [name]
    scene.play("remove-host", phoenix_host=name)
    assert len(all_of_them.holders()) == 1 and not all_of_them.holds(name)
    take_out(scene.inventory)
    scene.play("site", *WITHOUT_AUTOSCALER)
    scene.pair.roles()
    return {"added": added, "recovered": time.monotonic() - began - added}


def have_the_pair(scene: Scene) -> None:
    """Also after a drill that failed before its end: both could serve, and the first has the address."""
    if take_out(scene.inventory) or not all(map(scene.pair.ready, scene.pair.hosts)):
        scene.play("site", *WITHOUT_AUTOSCALER)
    bring_it_home(scene)


DRILLS = [
    Drill("switch-balancer", SECTION, move_the_address, clean=bring_it_home, moved=True, quick=True),
    Drill(
        "replace-balancer",
        ADDED_OR_REPLACED,
        replace_the_holder,
        prepare=give_it_to_the_second,
        clean=have_the_pair,
        moved=True,
    ),
    Drill("add-balancer", ADDED_OR_REPLACED, add_a_balancer, clean=have_the_pair, moved=True),
    Drill("lose-balancer", SECTION, lose_the_holder, clean=bring_it_home, moved=True),
]
