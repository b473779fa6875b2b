"""How the groups of an inventory become the lists that the roles take."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

HostVars = Mapping[str, Mapping[str, Any]]


def members(hosts: Sequence[str], hostvars: HostVars) -> list[dict[str, Any]]:
    """The replica set's members; the first is preferred as primary, so that a whole fleet's start is predictable."""
    return [
        {"host": host, "address": hostvars[host]["phoenix_address"], "priority": 2 if index == 0 else 1}
        for index, host in enumerate(hosts)
    ]


def addresses(hosts: Sequence[str], hostvars: HostVars) -> list[dict[str, str]]:
    """Each host's name and the address by which others reach it."""
    return [{"name": host, "address": hostvars[host]["phoenix_address"]} for host in hosts]


def private_service(address: str, path: str, port: int, sources: Sequence[str]) -> dict[str, Any]:
    """A service of the operators, as nginx takes it."""
    return {"path": path, "address": address, "port": int(port), "sources": list(sources)}


def upstreams(
    hosts: Sequence[str], hostvars: HostVars, placement: Mapping[str, Sequence[int]], spare_port: int
) -> list[dict[str, Any]]:
    """The hosts with ordinary instances, as nginx takes them; a standby host isn't among them."""
    return [
        {
            "name": host,
            "address": hostvars[host]["phoenix_address"],
            "ports": list(placement[host]),
            "spare_port": int(spare_port),
        }
        for host in hosts
        if placement.get(host)
    ]


def isolated(
    hosts: Sequence[str], hostvars: HostVars, placement: Mapping[str, Sequence[int]], ports: Sequence[int]
) -> list[dict[str, Any]]:
    """The sacrificial instances of the policy `isolate`: each port on each host that has ordinary instances."""
    return [
        {"address": hostvars[host]["phoenix_address"], "port": int(port)}
        for host in hosts
        if placement.get(host)
        for port in ports
    ]


def failed(hosts: Sequence[str], hostvars: HostVars, register: str) -> list[str]:
    """The hosts on which the task registered under this name was tried in vain, unreachable ones included."""
    results = {host: hostvars[host].get(register) or {} for host in hosts}
    return [
        host
        for host, result in results.items()
        if result.get("unreachable") or result.get("failed") or (not result.get("skipped") and result.get("rc", 0) != 0)
    ]


def reason(result: Mapping[str, Any]) -> str:
    """Why a command failed, on one line."""
    return " ".join(str(result.get("stderr") or result.get("msg") or "no reason given").split())


def told(hosts: Sequence[str], hostvars: HostVars, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Of each host its address within the fleet, and those of the named variables that the inventory sets."""
    return {
        host: {"ansible_host": hostvars[host]["phoenix_address"]}
        | {name: hostvars[host][name] for name in ("ansible_port", *names) if name in hostvars[host]}
        for host in hosts
    }


# One line of a known shape: whatever else a host says is its key would become lines of the store's authorized_keys.
PUBLIC_KEY = re.compile(r"ssh-ed25519 [A-Za-z0-9+/]+={0,2}( [A-Za-z0-9._@-]+)?")


def senders(hosts: Sequence[str], hostvars: HostVars, members: Sequence[str]) -> list[dict[str, Any]]:
    """The hosts that send to the backup store; those whose addresses are members' send dumps as well.

    The key is empty until the role `backup` has made it there. Raises ValueError when it is no key.
    """
    found = []
    for host in hosts:
        address = str(hostvars[host]["phoenix_address"])
        key = str(hostvars[host].get("backup_public_key", ""))
        if key and not PUBLIC_KEY.fullmatch(key):
            raise ValueError(
                f"The backup key of {host} is not one line with one ssh-ed25519 key: {key[:200]!r}. Find out who "
                "changed /etc/phoenix/backup/id_ed25519.pub there, remove both halves, and run site.yml --tags backup."
            )
        found.append({"host": host, "address": address, "key": key, "dumps": address in members})
    return found


def scaling_lines(status: Mapping[str, Any]) -> list[str]:
    """The autoscaler's own status as lines for people."""
    rate, desired = status.get("requests_per_second"), status.get("desired")
    age = float(status.get("age", 0))
    lines = [
        "",
        f"AUTOSCALER {'' if age < 10 else f'(silent for {age:.0f} s) '}"
        f"capacity {status.get('capacity')}, desired {desired}, {rate}/s in 60 s, "
        f"{status.get('panic_requests_per_second')}/s in 6 s"
        + (", at the maximum" if status.get("at_maximum") else "")
        + (f", making {status['acting']}" if status.get("acting") else ""),
    ]
    lines += [f"  {status['frozen']}"] if status.get("frozen") else []
    lines += [f"  no word from {', '.join(status['silent'])}"] if status.get("silent") else []
    lines += [f"  left out: {host}: {why}" for host, why in (status.get("left_out") or {}).items()]
    for one in status.get("decisions") or []:
        again = f" (again {one['repeats']} times, until {one['until'][11:19]})" if one.get("repeats") else ""
        lines.append(f"  {one['time'][:19]} {one['action']:<4} {one['count']:>3}  {one['reason']}{again}")
    return lines
