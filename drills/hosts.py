"""Hosts patched and rebooted in turn, as if each had an update that asks for it; one removed, replaced or added."""

from __future__ import annotations

import json
import time

from drills.balancers import bring_it_home
from drills.model import WITHOUT_AUTOSCALER, Drill, Scene
from tests.harness.autoscaling import capacity_of
from tests.harness.database import one_primary
from tests.harness.hosts import output_of
from tests.harness.instances import serving
from tests.harness.machines import add, replace, take_out
from tests.harness.programs import STATE_SHOW

SECTION = ("Security updates and reboots",)
ADDED_OR_REPLACED = ("A host is added, replaced or removed",)
INSTANCES = "phoenixctl instances status"
STARTED = "cut -d ' ' -f 22 /proc/1/stat"

UPSTREAMS = "cat /etc/nginx/phoenix/upstreams.conf"


def _patch(scene: Scene, *hosts: str) -> dict[str, float]:
    known = scene.hosts("all")
    before = {name: output_of(known[name], STARTED) for name in hosts}
    serves = {name: (output_of(host, UPSTREAMS), ports_of(scene)) for name, host in scene.hosts("lb").items()}
    scene.play("patch", "--limit", ",".join(hosts), phoenix_reboot="all")
    same = [name for name in hosts if output_of(known[name], STARTED) == before[name]]
    assert not same, f"not rebooted: {same}"
    # What stood in for an application host has gone again.
    after = {name: (output_of(host, UPSTREAMS), ports_of(scene)) for name, host in scene.hosts("lb").items()}
    assert after == serves, f"{serves}\n{after}"
    return {}


def ports_of(scene: Scene) -> dict[str, list[int]]:
    """The instances that run on each application host."""
    found = {name: json.loads(output_of(host, INSTANCES))["instances"] for name, host in scene.hosts("app").items()}
    return {name: [one["port"] for one in instances if one["active"]] for name, instances in found.items()}


def patch_those_that_are_missed_most(scene: Scene) -> dict[str, float]:
    """Of each group the one in use: the balancer with the address, an application host that serves, and the primary."""
    holder, _ = scene.pair.roles()
    primary = one_primary(scene.hosts("db"))
    return _patch(scene, holder, next(iter(serving(scene.inventory))), primary)


def patch_control(scene: Scene) -> dict[str, float]:
    return _patch(scene, scene.first("control"))


def remove_a_host_and_bring_it_back(scene: Scene) -> dict[str, float]:
    """The second application host that serves; by mistake, so that site.yml brings it back."""
    name, host = list(serving(scene.inventory).items())[1]
    scene.play("remove-host", phoenix_host=name)
    assert not host.check_output("systemctl list-units --state=active --plain --no-legend 'phoenix@*.service'")
    began = time.monotonic()
    scene.play("site", "--tags", "phoenix,nginx")
    assert host.service("phoenix@3000").is_running
    assert json.loads(scene.hosts("control")[scene.first("control")].check_output(STATE_SHOW))["drained"] == {}
    return {"recovered": time.monotonic() - began}


def replace_an_application_host(scene: Scene) -> dict[str, float]:
    """As the runbook has it of one that still answers: removed, and an empty one in its place."""
    name, before = scene.second("app"), ports_of(scene)
    began = time.monotonic()
    scene.play("remove-host", phoenix_host=name)
    replace(scene.inventory, name)
    scene.play("replace-host", *WITHOUT_AUTOSCALER, phoenix_host=name)
    assert ports_of(scene) == before
    return {"recovered": time.monotonic() - began}


def add_an_application_host(scene: Scene) -> dict[str, float]:
    """Another host in the group, which holds the next instance; and for good out of the fleet again."""
    capacity = capacity_of(scene.inventory)
    began = time.monotonic()
    name = add(scene.inventory, "app")
    scene.play("add-host", *WITHOUT_AUTOSCALER, phoenix_host=name)
    scene.play("scale", phoenix_capacity=capacity + 1)
    added = time.monotonic() - began
    host = scene.hosts("app")[name]
    assert 3000 in ports_of(scene)[name], f"{name} holds no instance after a scaling by one: {ports_of(scene)}"
    address = host.check_output("hostname --all-ip-addresses").split()[0]
    assert all(address in one.check_output(UPSTREAMS) for one in scene.hosts("lb").values())
    scene.play("scale", phoenix_capacity=capacity)
    scene.play("remove-host", phoenix_host=name)
    take_out(scene.inventory)
    scene.play("site", *WITHOUT_AUTOSCALER)
    assert not any(address in one.check_output(UPSTREAMS) for one in scene.hosts("lb").values())
    return {"added": added, "recovered": time.monotonic() - began - added}


def without_the_added(scene: Scene) -> None:
    """After a drill that failed before its end: take the host that it added out of the fleet."""
    if take_out(scene.inventory):
        scene.play("site", *WITHOUT_AUTOSCALER)


def with_the_second(scene: Scene) -> None:
    """After one that failed between the removal and the return: bring the host into service."""
    if not scene.hosts("app")[scene.second("app")].service("phoenix@3000").is_running:
        scene.play("site", *WITHOUT_AUTOSCALER)


DRILLS = [
    Drill("add-app", ADDED_OR_REPLACED, add_an_application_host, clean=without_the_added),
    Drill("replace-app", ADDED_OR_REPLACED, replace_an_application_host, clean=with_the_second),
    Drill("remove-host", ADDED_OR_REPLACED, remove_a_host_and_bring_it_back),
    Drill("patch", SECTION, patch_those_that_are_missed_most, clean=bring_it_home, moved=True),
    Drill("patch-control", SECTION, patch_control, writer="db"),
]
