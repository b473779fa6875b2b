"""The fleet at a glance and the smoke checks, laid out for people from what each host printed as its status."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from phoenix.fleet import floating, wiring
from phoenix.instances import releases
from phoenix.provider import published

HEADINGS = ("HOST", "GROUPS", "PHOENIX", "SYSTEM", "RELEASE", "DATABASE", "INSTANCES")
SILENT = "silent"


def read(result: Mapping[str, Any]) -> dict[str, Any]:
    """A host's status, out of its task's result; {} where it did not answer."""
    text = str(result.get("stdout") or "")
    return dict(json.loads(text)) if text.startswith("{") else {}


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell, the last one as it is."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def _row(host: str, groups: Sequence[str], seen: Mapping[str, Any]) -> list[str]:
    return [
        host,
        ",".join(groups),
        str(seen.get("version", "-")),
        str(seen.get("system", SILENT)),
        str(seen.get("release", "-")),
        str(seen.get("database", "-")),
        " ".join(seen.get("instances", [])),
    ]


def differing(statuses: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A warning for when hosts run different versions of Phoenix."""
    by_version: dict[str, list[str]] = {}
    for host, seen in statuses.items():
        if "version" in seen:
            by_version.setdefault(str(seen["version"]), []).append(host)
    if len(by_version) < 2:
        return []
    return [
        "Phoenix's versions differ: "
        + "; ".join(f"{version} on {', '.join(hosts)}" for version, hosts in sorted(by_version.items()))
        + ". site.yml brings every host to one."
    ]


def contents(statuses: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A warning for each release in service of which hosts, or the archive on control, hold another content."""
    found: dict[str, dict[str, list[str]]] = {}
    for host, seen in statuses.items():
        if own := seen.get("checksum"):
            found.setdefault(seen["release"], {}).setdefault(own, []).append(host)
    for host, seen in statuses.items():
        for name in found.keys() & seen.get("archives", {}).keys():
            found[name].setdefault(seen["archives"][name], []).append(f"{host} (archive)")
    return [
        f"{name} has more than one content: "
        + "; ".join(f"{releases.short(own)} on {', '.join(where)}" for own, where in by_content.items())
        + ". Deploy the source under a name of its own (phoenix_build_as), or another release."
        for name, by_content in sorted(found.items())
        if len(by_content) > 1
    ]


def status(hosts: Mapping[str, Sequence[str]], results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The fleet in lines. hosts: the groups of each; results: what their tasks returned."""
    statuses = {host: read(results.get(host, {})) for host in hosts}
    lines = table([HEADINGS, *(_row(host, groups, statuses[host]) for host, groups in hosts.items())])
    lines += differing(statuses) + contents(statuses)
    lines += [
        f"floating address {address}: {' and '.join(holders) or 'on no load balancer'}"
        for address, holders in _holders(statuses).items()
    ]
    lines += _processes(statuses)
    lines += [f"backup on {host}: {seen['backup']}" for host, seen in statuses.items() if "backup" in seen]
    for seen in statuses.values():
        if "drained" in seen:
            lines += [f"out of rotation: {server}: {why}" for server, why in seen["drained"].items()]
        if "autoscaler" in seen:
            lines += wiring.scaling_lines(seen["autoscaler"])
        if "demand" in seen:
            lines += ["", *published.lines(seen["demand"], float(seen["demand"]["now"]))]
    return lines


def _processes(statuses: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Where each process and schedule runs, and what keeps one from it."""
    reports = {host: seen["processes"] for host, seen in statuses.items() if seen.get("processes")}
    slots = sorted({slot for report in reports.values() for slot in report["holders"]})
    lines = []
    for slot in slots:
        here = [
            f"{host} ({one['revision'].partition(' ')[0]}{f', restarts {n}' if (n := one['restarts']) else ''})"
            for host, report in reports.items()
            if (one := report["running"].get(slot))
        ]
        lines.append(f"process {slot}: {' and '.join(here) or 'on no host'}")
    return lines + [f"processes on {host}: {report['error']}" for host, report in reports.items() if report["error"]]


def failed_units(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Units that have failed, host by host."""
    return [
        f"{host}: {', '.join(failed)}; see systemctl status UNIT there"
        for host, result in results.items()
        if (failed := read(result).get("failed"))
    ]


def _holders(statuses: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """By floating address, the hosts that have it."""
    holders: dict[str, list[str]] = {}
    for host, seen in statuses.items():
        for address, here in seen.get("floating", {}).items():
            holders.setdefault(address, []).extend([host] if here else [])
    return holders


def floating_error(results: Mapping[str, Mapping[str, Any]]) -> str:
    """What is wrong with the floating addresses; "" when each is on one load balancer."""
    return floating.holder_error(_holders({host: read(result) for host, result in results.items()}))


def database_error(results: Mapping[str, Mapping[str, Any]]) -> str:
    """What is wrong with the members of the replica set; "" when one is primary and the others follow."""
    roles = {host: str(read(result).get("database", SILENT)) for host, result in results.items()}
    if sorted(roles.values()) == ["PRIMARY", *["SECONDARY"] * (len(roles) - 1)]:
        return ""
    seen = ", ".join(f"{host} {role}" for host, role in roles.items())
    return f"The members are {seen}: one has to be PRIMARY, the others SECONDARY."
