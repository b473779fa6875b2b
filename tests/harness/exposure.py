"""How exposed units may be, as `systemd-analyze security` counts it: from 0 to 10, less is better.

Why some are above the limit is in docs/decisions/0064-what-each-unit-may-do.md.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping

LIMIT = 2.0
ABOVE = {
    "keepalived.service": 3.0,
    "mongod-host.service": 9.6,
    "nginx.service": 2.6,
    "phoenix-backup-logs.service": 2.2,
    "phoenix-backup-state.service": 2.2,
    "phoenix-ci.service": 3.5,
    "phoenix-drill@.service": 2.7,
    "phoenix-firewall.service": 3.3,
    "phoenix-reconcile.service": 2.7,
}


def template_of(unit: str) -> str:
    """`phoenix@3000.service` is one of `phoenix@.service`."""
    return re.sub(r"@.+\.service$", "@.service", unit)


def of_units(shown: str) -> dict[str, float]:
    """By unit or template, the last line of what `systemd-analyze security` prints of each unit that it is given."""
    found = re.findall(r"Overall exposure level for (\S+): ([0-9.]+) ", shown)
    return {template_of(unit): float(level) for unit, level in found}


def of_host(shown: str, configured: Container[str]) -> dict[str, float]:
    """The same of the table that it prints of a host's units; of the instances of a template, the most exposed.

    configured: the entries of /etc/systemd/system. Others are transient, as those that tests start, or the host's own.
    """
    found: dict[str, float] = {}
    for unit, level in re.findall(r"^(\S+\.service) +([0-9.]+) ", shown, re.MULTILINE):
        name = template_of(unit)
        ours = re.match(r"phoenix|(mongod|mongod-host|nginx|netdata|keepalived|jenkins)\.service$", name)
        if ours and (name in configured or f"{name}.d" in configured):
            found[name] = max(float(level), found.get(name, 0.0))
    return found


def excess(seen: Mapping[str, float]) -> dict[str, float]:
    """The units that are more exposed than they may be."""
    return {unit: level for unit, level in seen.items() if level > ABOVE.get(unit, LIMIT)}
