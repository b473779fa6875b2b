"""What a fleet is: read before a soak and after each fault, to see whether everything is back as it was."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from drills.model import Scene
from tests.harness import programs
from tests.harness.autoscaling import in_rotation
from tests.harness.database import admin, answer, one_primary
from tests.harness.hosts import output_of

# Few at a time: the hosts share the processors with the load that is measured.
AT_ONCE = 3


@dataclass(frozen=True)
class Found:
    """The fleet at one moment.

    hosts: inventory name -> its status, {} while it does not answer. record: control's desired state. rotation: load
    balancer -> instances in rotation, or -1 while it does not answer.
    """

    hosts: Mapping[str, Mapping[str, Any]]
    record: Mapping[str, Any]
    rotation: Mapping[str, int]


def look(scene: Scene) -> Found:
    def read(pair: tuple[Any, str]) -> dict[str, Any]:
        host, command = pair
        try:
            return dict(json.loads(output_of(host, command)))
        except ValueError:
            return {}

    hosts = scene.hosts("all")
    control = next(iter(scene.hosts("control").values()))
    asked = [(host, "phoenixctl host status") for host in hosts.values()]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        *statuses, record = pool.map(read, [*asked, (control, programs.STATE_SHOW)])
        rotation = list(pool.map(_rotation, scene.hosts("lb").values()))
    return Found(
        {name: normal(status) for name, status in zip(hosts, statuses, strict=True)},
        record,
        dict(zip(scene.hosts("lb"), rotation, strict=True)),
    )


def _rotation(balancer: Any) -> int:
    try:
        return in_rotation(balancer)
    except (AssertionError, RuntimeError):
        return -1


def replica_set(scene: Scene) -> dict[str, Any]:
    """The set's configuration, without what an election changes."""
    primary = one_primary(scene.hosts("db"))
    config = answer(scene.inventory, primary, {"replSetGetConfig": 1}, **admin(scene.inventory))["config"]
    return {name: value for name, value in config.items() if name not in ("version", "term")}


def normal(status: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a host's status that stay the same while nothing is wrong. A restarted instance is the same one."""
    kept = ("version", "system", "failed", "release", "database", "floating", "drained")
    found = {name: status[name] for name in kept if name in status}
    if "instances" in status:
        found["instances"] = [re.sub(r"\(restarts \d+\)", "", instance) for instance in status["instances"]]
    return found


def unwell(found: Found) -> list[str]:
    """What is wrong with a fleet, whatever it was before."""
    wrong = []
    for name, status in found.hosts.items():
        if not status:
            wrong.append(f"{name} does not answer")
            continue
        if status["system"] != "running":
            wrong.append(f"{name} is {status['system']}{': ' if status['failed'] else ''}{', '.join(status['failed'])}")
        wrong += [f"{name}: instance {one}" for one in status["instances"] if "[" in one]
    roles = sorted(str(status["database"]) for status in found.hosts.values() if "database" in status)
    if roles and roles != ["PRIMARY", *["SECONDARY"] * (len(roles) - 1)]:
        wrong.append(f"the database's members are {', '.join(roles)}")
    held = [address for status in found.hosts.values() for address, has in status.get("floating", {}).items() if has]
    addresses = {address for status in found.hosts.values() for address in status.get("floating", {})}
    wrong += [f"{held.count(one)} load balancers have {one}" for one in sorted(addresses) if held.count(one) != 1]
    return wrong


def differences(before: Found, after: Found) -> list[str]:
    """What is not as before.

    The floating address and the primary may be elsewhere: any host that holds one serves. What control had not recorded
    yet is no matter.
    """

    def fixed(status: Mapping[str, Any]) -> dict[str, Any]:
        moving = {"floating": sorted(status.get("floating", {})), "database": "database" in status}
        return {**status, **moving}

    found = [
        f"{name}: {key} was {was.get(key)}, is {now.get(key)}"
        for name in before.hosts
        if after.hosts.get(name)
        for was, now in [(fixed(before.hosts[name]), fixed(after.hosts[name]))]
        for key in sorted(was.keys() | now.keys())
        if was.get(key) != now.get(key)
    ]
    found += [
        f"the record's {key} was {value}, is {after.record.get(key)}"
        for key, value in before.record.items()
        if key != "lost" and value is not None and after.record.get(key) != value
    ]
    return found + [
        f"{name} had {number} instances in rotation, has {after.rotation.get(name)}"
        for name, number in before.rotation.items()
        if after.rotation.get(name) != number
    ]


def compared(before: Found, after: Found) -> Sequence[str]:
    """All that is wrong or not as before; empty where a fault is over."""
    return unwell(after) or differences(before, after)
