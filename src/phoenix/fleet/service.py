"""Hosts taken out of service one at a time: in which order, and why one may not be taken out now.

The others have to carry on: a refusal names what stands against it. `""` means that nothing does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from phoenix.common import endpoint

# The groups whose hosts clients depend on. Others, such as control, are only restarted.
SERVING = ("lb", "app", "db")
# First what is in front, last of all the host that has the lock and the records.
ORDER = (*SERVING, "jenkins", "backup_store", "control")
# Why a server is out of rotation while its host is out of service; other reasons are not ours to undo.
REASON = "out of service"


def turns(
    groups: Mapping[str, Sequence[str]], statuses: Mapping[str, Mapping[str, Any]], hosts: Collection[str]
) -> list[str]:
    """These hosts, in the order in which they are taken out of service.

    By the last of a host's groups in ORDER. Within a group those come first that clients miss least: a standby host, a
    balancer without an address, a secondary. statuses: what each printed as its status.
    """
    places: dict[str, int] = {}
    for place, group in enumerate(ORDER):
        places.update(dict.fromkeys(groups.get(group, []), place))
    known = [*dict.fromkeys(host for group in ORDER for host in groups.get(group, []))]
    chosen = [*(host for host in known if host in hosts), *(host for host in hosts if host not in places)]

    def key(host: str) -> tuple[int, bool]:
        seen = statuses.get(host, {})
        busy = (
            any(seen.get("floating", {}).values())
            or seen.get("database") == "PRIMARY"
            or bool(seen.get("instances") and host not in groups.get("app_standby", []))
        )
        return places.get(host, len(SERVING)), bool(busy)

    return sorted(chosen, key=key)


def services(host: str, groups: Mapping[str, Sequence[str]], downtime: bool) -> list[str]:
    """The groups in which other hosts take over from this one.

    Raises:
        ValueError: in one of them there is no other, and downtime is not accepted.
    """
    mine = [group for group in SERVING if host in groups.get(group, [])]
    alone = [group for group in mine if len(groups[group]) == 1]
    if alone and not downtime:
        raise ValueError(
            f"{host} is the only host of {' and '.join(alone)}: without it nothing is served. "
            "Give -e phoenix_downtime=true to accept that, or add a host to the group first."
        )
    return [group for group in mine if group not in alone]


def due(
    groups: Mapping[str, Sequence[str]],
    statuses: Mapping[str, Mapping[str, Any]],
    updates: Mapping[str, Mapping[str, Any]],
    reboot: Collection[str],
    left: Collection[str] = (),
) -> list[dict[str, str]]:
    """The hosts on which something is due, {host, why} in their order.

    updates: what `phoenixctl host updates` printed on each. reboot: hosts that are rebooted in any case. left: those
    that an earlier run has left out of service.
    """
    reasons = {}
    for host, seen in updates.items():
        why = [f"{len(seen['packages'])} updates ({', '.join(seen['packages'])})"] if seen["packages"] else []
        why += [f"a reboot: {seen['reboot']}"] if seen["reboot"] else ["a reboot, as asked"] if host in reboot else []
        why += ["still out of service"] if host in left else []
        if why:
            reasons[host] = "; ".join(why)
    return [{"host": host, "why": reasons[host]} for host in turns(groups, statuses, reasons)]


def reboots(wanted: str, hosts: Sequence[str]) -> list[str]:
    """The hosts that phoenix_reboot names: "needed" (none in any case), "all", or hosts with commas between them.

    Raises:
        ValueError: one is not among the hosts.
    """
    if wanted in ("needed", "all"):
        return list(hosts) if wanted == "all" else []
    named = [name.strip() for name in wanted.split(",") if name.strip()]
    if strange := [name for name in named if name not in hosts]:
        raise ValueError(
            f"phoenix_reboot = {wanted}: {', '.join(strange)} is not a host of this run. "
            f"Give needed, all, or some of {', '.join(hosts)}."
        )
    return named


def debian_step(found: Sequence[str], wanted: str) -> str:
    """What is left of a host's replacement by one with another release of Debian.

    "leave": the present one serves. "install": it is empty, and of another release. "join": it is empty, and as wanted.
    "done". found: its release, and `in use` where Phoenix is installed.
    """
    release, used = found[0] if found else "", "in use" in found[1:]
    if used:
        return "done" if release == wanted else "leave"
    return "join" if release == wanted else "install"


# --- load balancers


def balancer_refusal(host: str, others: Sequence[Mapping[str, Any]]) -> str:
    """Why a load balancer may not be taken out. others: what the others' `floating show` gave, as loop results."""
    reasons = []
    for result in others:
        if result.get("rc") == 0:
            return ""
        reasons.append(f"{result['item']}: {result.get('stdout') or result.get('msg') or 'no answer'}")
    return (
        f"{host} is not taken out of service, as no other load balancer could serve ({'; '.join(reasons)}). "
        "Bring one back, then run the play again."
    )


# --- application hosts


def servers(host: str, hosts: Iterable[Mapping[str, Any]], more: Iterable[int]) -> list[str]:
    """The servers of the upstreams on a host; [] where no ordinary instance is placed.

    hosts: {name, address, ports}; more: the ports of spare and isolated instances, which such a host has as well.
    """
    return [
        endpoint.of(known["address"], port)
        for known in hosts
        if known["name"] == host and known["ports"]
        for port in (*known["ports"], *more)
    ]


def stand_ins(
    hosts: Sequence[Mapping[str, Any]], around: Mapping[str, Sequence[int]], statuses: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The hosts with those further instances of the placement around one of them that run: {name, address, ports}.

    What should run in any case stays. statuses: what `phoenixctl instances status` printed on the others.
    """
    return [
        {
            **known,
            "ports": sorted({*known["ports"], *(_running(statuses, known["name"]) & {*around.get(known["name"], ())})}),
        }
        for known in hosts
    ]


def _running(statuses: Mapping[str, Mapping[str, Any]], host: str) -> set[int]:
    return {int(seen["port"]) for seen in statuses.get(host, {}).get("instances", []) if seen["active"]}


def application_refusal(
    host: str,
    hosts: Sequence[Mapping[str, Any]],
    wanted: int,
    statuses: Mapping[str, Mapping[str, Any]],
    drained: Collection[str],
    minimum_share: float,
) -> str:
    """Why an application host may not be taken out.

    Of the wanted ordinary instances, which the capacity asks for, minimum_share has to run in rotation elsewhere, and
    one in any case. hosts: as stand_ins has them; statuses: as there.
    """
    if not any(known["name"] == host and known["ports"] for known in hosts):
        return ""
    left = [
        port
        for known in hosts
        if known["name"] != host
        for port in known["ports"]
        if endpoint.of(known["address"], port) not in drained and port in _running(statuses, known["name"])
    ]
    if left and len(left) >= minimum_share * wanted:
        return ""
    return (
        f"{host} is not taken out of service, as of {wanted} instances {len(left)} would be left in rotation "
        f"(deploy_minimum_share is {minimum_share:g}). Bring back what is missing, or add an application host."
    )


def without(drained: Mapping[str, str], mine: Collection[str]) -> list[str]:
    """What stays out of rotation once this host is back: what is out for other reasons, or elsewhere."""
    return [server for server, reason in drained.items() if server not in mine or not reason.startswith(REASON)]


def left_out(drained: Mapping[str, str], addresses: Mapping[str, str]) -> list[str]:
    """The hosts that a play which was cut has left out of service. addresses: host -> address."""
    out = {endpoint.parts(server)[0] for server, reason in drained.items() if reason.startswith(REASON)}
    return [host for host, address in addresses.items() if address in out]


# --- database members


def member_refusal(host: str, own: str, state: Mapping[str, Any]) -> str:
    """Why a member may not be taken out. own: its address; state: that of the replica set, as replica_set_info has it.

    Without it there has to be a majority, and those that are left have to have its documents.
    """
    missing = [f"{address} does not answer" for address in state["silent"] if address != own]
    missing += [f"{address} has not caught up" for address in state["behind"] if address != own]
    if not state["primary"]:
        missing.append("there is no primary")
    if not missing:
        return ""
    return (
        f"{host} is not taken out of service: {'; '.join(missing)}. Bring the members back, then run the play again; "
        "the others are untouched."
    )
