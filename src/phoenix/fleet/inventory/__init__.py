"""Checks of a whole inventory, before anything is changed and without facts.

Each check yields (host, message); a message names the variable, its value and the fix. A secret's value is
never shown. The values of an Ansible inventory are templates, which may fail when they are evaluated: that is reported
as well.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from phoenix.fleet.inputs import precedence_error
from phoenix.fleet.inventory.archives import bad_archives
from phoenix.fleet.inventory.fleet import (
    alarms_without_recipients,
    clashing_ports,
    different_values,
    empty_groups,
    even_voters,
    floating_addresses,
    hasty_autoscaler,
    second_controls,
    unfit_certificates,
    unserved_url,
    unusable_addresses,
    unusable_names,
)
from phoenix.fleet.inventory.model import Finding, Inventory, Specs, known_variables, shared_variables
from phoenix.fleet.inventory.providers import unmakeable_hosts, unprovidable_hosts
from phoenix.fleet.inventory.variables import (
    failing_templates,
    missing_secrets,
    missing_variables,
    unknown_variables,
    unsupported_values,
)
from phoenix.fleet.inventory.version import unvalidated_version

__all__ = ["errors", "known_variables", "shared_variables"]

CHECKS: tuple[Callable[[Inventory], Iterator[Finding]], ...] = (
    unvalidated_version,
    empty_groups,
    second_controls,
    unusable_addresses,
    unknown_variables,
    failing_templates,
    missing_secrets,
    missing_variables,
    unsupported_values,
    different_values,
    even_voters,
    unusable_names,
    floating_addresses,
    alarms_without_recipients,
    clashing_ports,
    hasty_autoscaler,
    bad_archives,
    unserved_url,
    unfit_certificates,
    unprovidable_hosts,
    unmakeable_hosts,
)


def errors(
    hostvars: Mapping[str, Mapping[str, Any]],
    groups: Mapping[str, Sequence[str]],
    specs: Specs,
    late_variables: Iterable[str] = (),
    breaking_changes: Sequence[Mapping[str, str]] = (),
    precedence: Sequence[str] = (),
) -> list[str]:
    """Return every finding as one message each, with the hosts it concerns; an empty list means a sound inventory.

    `hostvars` maps host to variables, `groups` maps group to hosts, `specs` is what known_variables() returns.
    `late_variables` are names that a running play defines; `breaking_changes` those of roles/preflight/vars/main.yml.
    `precedence` is Ansible's setting of this name, where it is known: if it is wrong, values differ from those in the
    inventory, and nothing else is checked.
    """
    if precedence and precedence_error(precedence):
        return [precedence_error(precedence)]
    inventory = Inventory(hostvars, groups, specs, frozenset(late_variables), breaking_changes)
    found: dict[str, list[str]] = {}
    for check in CHECKS:
        for host, message in check(inventory):
            hosts = found.setdefault(message, [])
            if host and host not in hosts:
                hosts.append(host)
    return [f"{message} [{', '.join(hosts)}]" if hosts else message for message, hosts in found.items()]
