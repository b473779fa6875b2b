"""Checks of what hosts and services are to each other: groups, voters, ports, recipients of alarms."""

from collections.abc import Iterator, Mapping
from typing import Any

from phoenix.fleet.inventory.model import Finding, Inventory

GROUPS = ("lb", "app", "db", "control")
MAX_VOTERS = 7  # MongoDB's limit: https://www.mongodb.com/docs/manual/reference/limits/


def empty_groups(inventory: Inventory) -> Iterator[Finding]:
    for group in GROUPS:
        if not inventory.members(group):
            yield "", f"group {group}: it has no host (hosts seen: []); add at least one host to it in the inventory"


def even_voters(inventory: Inventory) -> Iterator[Finding]:
    for host in inventory.members("db"):
        if host not in inventory.hostvars:
            continue
        members = inventory.value(host, "mongodb_members")
        if not isinstance(members, list):
            continue
        voters = [m for m in members if isinstance(m, Mapping) and str(m.get("votes", 1)) != "0"]
        names = ", ".join(str(m.get("host", m.get("address"))) for m in voters)
        if len(voters) % 2 == 0:
            yield (
                host,
                (
                    f"mongodb_members: {len(voters)} voting members ({names}) is an even number, which can split into "
                    "halves without a majority; add or remove a member, or give one votes: 0"
                ),
            )
        elif len(voters) > MAX_VOTERS:
            yield (
                host,
                f"mongodb_members: {len(voters)} voting members ({names}), above the limit of {MAX_VOTERS}; "
                "give the others votes: 0",
            )


def _claims(inventory: Inventory, host: str) -> Iterator[tuple[str, Any]]:
    """The ports that the host's services listen on, as (who asks, port)."""

    def default(name: str, fallback: Any) -> Any:
        value = inventory.value(host, name)
        return fallback if value is None else value

    yield "ssh", default("ansible_port", 22)
    if host in inventory.members("lb"):
        yield "nginx HTTP", default("nginx_http_port", 80)
        yield "nginx HTTPS", default("nginx_https_port", 443)
    if "netdata_parent_address" in inventory.hostvars[host]:
        yield "netdata_stream_port", default("netdata_stream_port", 19999)
    if host in inventory.members("db"):
        yield "mongodb_port", default("mongodb_port", 27017)
    if host in inventory.members("app"):
        ports = default("phoenix_ports", [])
        isolate = default("phoenix_isolate_ports", [])
        # The ports that this host gets when the capacity grows are taken as well.
        first, count = inventory.value(host, "phoenix_first_port"), inventory.value(host, "phoenix_instances_per_host")
        if isinstance(first, int) and isinstance(count, int) and isinstance(ports, list):
            ports = [*ports, *(port for port in range(first, first + count) if port not in ports)]
        for name, listed in (("phoenix_ports", ports), ("phoenix_isolate_ports", isolate)):
            for port in listed if isinstance(listed, list) else []:
                yield name, port
        # Standby hosts get the spare instance with their first ordinary one, so the port is theirs from the start.
        yield "phoenix_spare_port", default("phoenix_spare_port", 3900)


def clashing_ports(inventory: Inventory) -> Iterator[Finding]:
    for host in inventory.hostvars:
        owners: dict[int, str] = {}
        for name, raw in _claims(inventory, host):
            try:
                port = int(raw)
            except (TypeError, ValueError):
                if inventory.options.get(name, {}).get("type") == "int":
                    continue  # unsupported_values says it
                yield host, f"{name}: {raw!r} is no port; give a number between 1 and 65535"
                continue
            lowest = 1024 if name.startswith("phoenix_") else 1
            if not lowest <= port <= 65535:
                yield host, f"{name}: port {port} can't be used; give a number between {lowest} and 65535"
            elif port in owners:
                yield (
                    host,
                    f"{name}: port {port} is taken by {owners[port]} on the same host; give one of them another",
                )
            else:
                owners[port] = name


def nobody_told(inventory: Inventory) -> Iterator[Finding]:
    """Alarms that are on and reach nobody."""
    for host in inventory.members("control"):
        if host not in inventory.hostvars or "netdata_alarms_enabled" not in inventory.options:
            continue
        enabled, recipients = (inventory.read(host, f"netdata_{name}") for name in ("alarms_enabled", "recipients"))
        if enabled[1] or recipients[1]:
            continue  # failing_templates says it
        if enabled[0] and not (isinstance(recipients[0], Mapping) and recipients[0].get("default")):
            yield (
                host,
                f"netdata_recipients: {recipients[0]!r} names nobody under `default`, while netdata_alarms_enabled is "
                "true; name a channel of netdata_channels, or set netdata_alarms_enabled to false",
            )
