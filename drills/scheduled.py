"""The drills that control carries out by timers: each put on a schedule, good, repeated by hand, and taken off it."""

from __future__ import annotations

import json
import time
from typing import Any

from drills.balancers import bring_it_home
from drills.model import Drill, Scene
from tests.harness.waiting import wait_for

RECORD = "/var/lib/phoenix/drills.json"
UNITS = "'phoenix-drill-*.timer' 'phoenix-drill@*.service'"
# Each in a minute of its own: one that holds the fleet's lock puts the others off.
SCHEDULE = {"restore": "*:0/3:00", "alarm": "*:1/3:00", "balancer": "*:2/3:00"}
# A few turns, as one that holds the lock for longer puts the next one off.
LONGEST_S = 1200


def _control(scene: Scene) -> Any:
    return scene.hosts("control")[scene.first("control")]


def _record(scene: Scene) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(_control(scene).check_output(f"cat {RECORD}"))
    return found


def have_a_dump(scene: Scene) -> None:
    scene.play("backup")


def each_by_its_timer(scene: Scene) -> dict[str, float]:
    control, before = _control(scene), scene.pair.roles()
    # No alarm puts them off: the load raises some, and the autoscaler is stopped for it.
    scene.play("site", "--tags", "drills", drills_enabled=True, drills_schedule=SCHEDULE, drills_hosts=[])
    began = time.monotonic()

    def good() -> bool:
        known = _record(scene)
        failed = {name: one["text"] for name, one in known.items() if one["result"] == "failed"}
        assert not failed, failed
        return known.keys() == SCHEDULE.keys() and all(one["succeeded"] for one in known.values())

    try:
        wait_for(good, LONGEST_S, "every drill is good once")
    except AssertionError as error:
        raise AssertionError(f"{error}: {_record(scene)}") from error
    took = time.monotonic() - began
    control.check_output("systemctl stop 'phoenix-drill-*.timer'")
    wait_for(lambda: not _units(scene), 300, "the last of them ends")
    assert scene.pair.roles() == before
    succeeded = _record(scene)["alarm"]["succeeded"]
    control.check_output("systemctl start phoenix-drill@alarm")
    assert _record(scene)["alarm"]["succeeded"] > succeeded, _record(scene)
    return {"all three": took}


def _units(scene: Scene) -> str:
    """Timers that wait, and drills that run."""
    listed = _control(scene).check_output(f"systemctl list-units --state=active,activating --plain --no-legend {UNITS}")
    return str(listed).strip()


def take_them_off(scene: Scene) -> None:
    scene.play("site", "--tags", "drills")
    assert not _units(scene)
    bring_it_home(scene)


DRILLS = [
    Drill(
        "scheduled",
        ("Alarm: phoenix_drill_failed", "Alarm: phoenix_drill_late"),
        each_by_its_timer,
        prepare=have_a_dump,
        clean=take_them_off,
        moved=True,
    )
]
