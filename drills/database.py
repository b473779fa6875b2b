"""The replica set: its primary killed, a member that has lost its data, and its TLS changed."""

from __future__ import annotations

import time

from drills.model import WITHOUT_AUTOSCALER, Drill, Scene
from drills.upgrades import refused
from phoenix.database import tls
from tests.harness.database import (
    STATUS,
    another_is_primary,
    connection_string,
    kept_down,
    one_primary,
    tls_modes,
    whole,
)
from tests.harness.hosts import output_of
from tests.harness.machines import replace
from tests.harness.waiting import wait_for


def _start_all(scene: Scene) -> None:
    members = scene.hosts("db")
    for host in members.values():
        host.check_output("systemctl start mongod")
    wait_for(lambda: whole(members), 120, "one primary, and the others follow")


def lose_the_primary(scene: Scene) -> dict[str, float]:
    members = scene.hosts("db")
    primary = one_primary(members)
    with kept_down(members[primary]):
        elected = another_is_primary(members, primary)
    _start_all(scene)
    return {"recovered": elected}


def empty_a_member(scene: Scene) -> dict[str, float]:
    members = scene.hosts("db")
    primary = one_primary(members)
    host = next(host for name, host in members.items() if name != primary)
    began = time.monotonic()
    # As the runbook has it.
    host.check_output("systemctl stop mongod && find /var/lib/mongodb -mindepth 1 -delete && systemctl start mongod")
    wait_for(lambda: '"SECONDARY"' in output_of(host, STATUS), 300, "the member has copied everything")
    return {"recovered": time.monotonic() - began}


def replace_members(scene: Scene) -> dict[str, float]:
    """A secondary by an empty host and site.yml alone, and then the primary by replace-host.yml."""
    members = scene.hosts("db")
    measured = {}
    for role in ("secondary", "primary"):
        wait_for(lambda: whole(members), 60, "a set that can do without a member")
        primary = one_primary(members)
        name = primary if role == "primary" else next(name for name in members if name != primary)
        began = time.monotonic()
        replace(scene.inventory, name)
        if role == "primary":
            another_is_primary(members, name)
            scene.play("replace-host", *WITHOUT_AUTOSCALER, phoenix_host=name)
        else:
            scene.play("site", *WITHOUT_AUTOSCALER)
        wait_for(lambda: whole(members), 300, f"{name} has copied everything")
        measured[role] = time.monotonic() - began
    return {**measured, "recovered": max(measured.values())}


def change_tls(scene: Scene) -> dict[str, float]:
    """One step away from the mode of the inventory, and back; the writer connects as it did, and is accepted."""
    members = scene.hosts("db")
    (present,) = tls_modes(members)
    at = tls.MODES.index(present)
    step, far = (tls.MODES[at + 1], tls.MODES[at + 2]) if at < 2 else (tls.MODES[at - 1], tls.MODES[at - 2])
    refused(scene, "site", f"mongodb_tls = {far} is more than one step", mongodb_tls=far)
    measured = {}
    for mode in (step, present):
        began = time.monotonic()
        scene.play("site", *WITHOUT_AUTOSCALER, mongodb_tls=mode)
        measured[mode] = time.monotonic() - began
        assert tls_modes(members) == {mode}
        assert ("ssl=true" in connection_string(scene.inventory)) is tls.used(mode), f"the application, with {mode}"
        wait_for(lambda: whole(members), 60, "one primary, and the others follow")
    return {**measured, "recovered": max(measured.values())}


DRILLS = [
    Drill("lose-primary", ("Alarm: phoenix_mongodb_down",), lose_the_primary, clean=_start_all),
    Drill("empty-member", ("A database member is lost",), empty_a_member, clean=_start_all, quick=True),
    Drill("replace-member", ("A database member is lost", "A host is added, replaced or removed"), replace_members),
    Drill("database-tls", ("TLS of the database is turned on, or off",), change_tls),
]
