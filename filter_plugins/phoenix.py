"""Filters of Phoenix: a shim over phoenix_core, where the code and its tests are."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Ansible loads this file by its path, from wherever it was started, and knows nothing of the package beside its folder.
_TOP = Path(__file__).resolve().parent.parent
sys.path[:0] = [folder for folder in (str(_TOP), str(_TOP / "src")) if folder not in sys.path]

from ansible.errors import AnsibleFilterError  # noqa: E402
from ansible.vars.hostvars import HostVars, HostVarsVars  # noqa: E402

from phoenix_core import certificate, inventory, placement, rollout, uri, wiring  # noqa: E402


def _reported(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn a ValueError of phoenix_core into Ansible's message, without a traceback."""

    def filtered(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except ValueError as error:
            raise AnsibleFilterError(str(error)) from error

    return filtered


def mongodb_uri(password: str, user: str, *arguments: Any, **options: Any) -> str:
    """The password comes first, as the filtered value: `password | mongodb_uri(user, members, port, ...)`."""
    return uri.mongodb_uri(user, password, *arguments, **options)


def inventory_errors(hostvars: Any, *arguments: Any, **options: Any) -> list[str]:
    """A variable read through hostvars can't itself use hostvars, but the wiring does: it is given back here."""
    if isinstance(hostvars, HostVars):
        hostvars = {
            host: HostVarsVars({**hostvars.raw_get(host), "hostvars": hostvars}, loader=hostvars._loader, host=host)
            for host in hostvars
        }
    return inventory.errors(hostvars, *arguments, **options)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "phoenix_place": _reported(placement.place),
            "phoenix_place_around": _reported(placement.place_around),
            "phoenix_certificate_fault": certificate.fault,
            "mongodb_uri": _reported(mongodb_uri),
            "phoenix_inventory_errors": _reported(inventory_errors),
            "phoenix_known_variables": _reported(inventory.known_variables),
            "phoenix_rollout_plan": rollout.plan,
            "phoenix_rollout_judge": rollout.judge,
            "phoenix_addresses": wiring.addresses,
            "phoenix_private_service": wiring.private_service,
            "phoenix_members": wiring.members,
            "phoenix_upstreams": wiring.upstreams,
            "phoenix_isolated": wiring.isolated,
            "phoenix_scaling_lines": wiring.scaling_lines,
            "phoenix_told": wiring.told,
            "phoenix_failed": wiring.failed,
            "phoenix_reason": wiring.reason,
            "phoenix_senders": wiring.senders,
        }
