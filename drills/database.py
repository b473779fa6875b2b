"""The replica set: its primary killed, and a member that has lost its data."""

from __future__ import annotations

import time

from drills.model import Drill, Scene
from tests.harness.database import primaries
from tests.harness.hosts import output_of
from tests.harness.waiting import wait_for

STATUS = "phoenixctl host status"


def _start_all(scene: Scene) -> None:
    members = scene.hosts("db")
    for host in members.values():
        host.check_output("systemctl start mongod")
    wait_for(lambda: _whole(scene), 120, "one primary, and the others follow")


def _whole(scene: Scene) -> bool:
    seen = [output_of(host, STATUS) for host in scene.hosts("db").values()]
    return sorted('"PRIMARY"' in text for text in seen)[-2:] == [False, True] and all(
        '"PRIMARY"' in text or '"SECONDARY"' in text for text in seen
    )


def lose_the_primary(scene: Scene) -> dict[str, float]:
    members = scene.hosts("db")
    (primary,) = primaries(members)
    members[primary].check_output("systemctl kill -s KILL mongod && systemctl stop mongod")
    others = {name: host for name, host in members.items() if name != primary}
    elected = wait_for(lambda: len(primaries(others)) == 1, 60, "another one is primary")
    _start_all(scene)
    return {"recovered": elected}


def empty_a_member(scene: Scene) -> dict[str, float]:
    members = scene.hosts("db")
    (primary,) = primaries(members)
    host = next(host for name, host in members.items() if name != primary)
    began = time.monotonic()
    # As the runbook has it.
    host.check_output("systemctl stop mongod && find /var/lib/mongodb -mindepth 1 -delete && systemctl start mongod")
    wait_for(lambda: '"SECONDARY"' in output_of(host, STATUS), 300, "the member has copied everything")
    return {"recovered": time.monotonic() - began}


DRILLS = [
    Drill("lose-primary", ("Alarm: phoenix_mongodb_down",), lose_the_primary, clean=_start_all, quick=True),
    Drill("empty-member", ("A database member is lost",), empty_a_member, clean=_start_all, quick=True),
]
