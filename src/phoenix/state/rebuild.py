"""Rebuild missing or damaged records of the desired state from what the fleet runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from phoenix.fleet import placement


class Unknown(ValueError):
    """The state can't be determined; the text states the reason and the fix."""


def understand(shown: str) -> dict[str, Any]:
    """The state that `phoenixctl state show --json` printed; a host without phoenixctl has recorded nothing."""
    nothing = dict.fromkeys(("capacity", "release", "configuration"), "control has no phoenixctl yet")
    state: dict[str, Any] = {**dict.fromkeys(nothing), "drained": {}, "lost": nothing}
    if shown.startswith("{"):
        state = json.loads(shown)
    return {"maintenance": False, "demand": [], "away": {}, **state, "unrecorded": list(state["lost"])}


def statuses(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any] | None]:
    """Each host's (`item`) status of its instances; None: it did not answer, {}: it runs nothing yet.

    Raises Unknown when a host answered with an error.
    """
    found: dict[str, dict[str, Any] | None] = {}
    for result in results:
        if result.get("rc", 0) and not result.get("unreachable"):
            raise Unknown(f"{result['item']} can't report its instances: {result.get('stderr') or result.get('msg')}")
        text = str(result.get("stdout", ""))
        found[result["item"]] = None if result.get("unreachable") else json.loads(text) if text.startswith("{") else {}
    return found


def marked(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """The servers that load balancers have down; one that did not answer, or has no upstreams yet, adds none."""
    texts = [str(result.get("stdout", "")) for result in results if not result.get("rc", 1)]
    return sorted({str(server) for text in texts for server in json.loads(text)})


def _configuration(instances: Sequence[Mapping[str, Any]], status: Mapping[str, Any] | None) -> str:
    """What most of a host's instances were healthy with, or else what it accepted."""
    served = Counter(one["configuration"] for one in instances if one.get("configuration") and one.get("healthy"))
    if served:
        return str(max(served, key=lambda name: (served[name], name)))
    return str((status or {}).get("configuration", ""))


def rebuild(
    state: Mapping[str, Any],
    seen: Mapping[str, Mapping[str, Any] | None],
    hosts: Sequence[str],
    standby: Sequence[str],
    initial: int,
    first_port: int = 3000,
    per_host: int = 4,
    demand: Sequence[str] = (),
    down: Sequence[str] = (),
) -> dict[str, Any]:
    """The state with lost records rebuilt. Only a fleet that runs nothing gets the initial capacity, and no release.

    The capacity is the lowest one whose placement holds every ordinary instance that runs, so that none of them is
    stopped. The release is the one that most instances serve, once healthy with it, and so is a host's configuration;
    a host without instances has the one that it accepted. What load balancers have `down` stays out of rotation, where
    no record says what is.

    Raises Unknown when hosts are silent and the others run nothing.
    """
    ports = range(first_port, first_port + per_host)
    running = {
        host: [
            instance
            for instance in (status or {}).get("instances", [])
            if instance["active"] and instance["port"] in ports
        ]
        for host, status in seen.items()
    }
    found = [instance for instances in running.values() for instance in instances]
    silent = sorted(host for host, status in seen.items() if status is None)
    if silent and not found:
        raise Unknown(
            f"The desired state is lost ({'; '.join(state['lost'].values())}), and {', '.join(silent)} can't be "
            "reached: what runs there is not known. Bring them back, or record it on control: "
            "phoenixctl state record capacity N"
        )
    served = Counter(instance["release"] for instance in found if instance["release"] and instance.get("healthy", True))
    rebuilt = dict(state)
    if state["capacity"] is None:
        by_host = {host: [instance["port"] for instance in instances] for host, instances in running.items()}
        rebuilt["capacity"] = placement.covering(by_host, hosts, standby, first_port, per_host, demand) or initial
    if state["release"] is None:
        rebuilt["release"] = max(served, key=lambda name: (served[name], name)) if served else ""
    if state["configuration"] is None:
        accepted = {host: _configuration(running[host], status) for host, status in seen.items()}
        rebuilt["configuration"] = {host: name for host, name in accepted.items() if name}
    rebuilt["drained"] = state["drained"] or dict.fromkeys(down, "out of rotation when the record was rebuilt")
    rebuilt["rebuilt"] = [name for name in state["lost"] if found and rebuilt[name]]
    rebuilt["unrecorded"] = [name for name in state["lost"] if name not in rebuilt["rebuilt"]]
    return rebuilt
