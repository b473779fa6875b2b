"""Check that an inventory was validated for this version of Phoenix."""

import re
from collections.abc import Iterator

from phoenix.fleet.inventory.model import Finding, Inventory

NAME = "preflight_validated_version"
VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")


def parse(text: str) -> tuple[int, ...]:
    """Return `1.2.3` as (1, 2, 3), which compares as versions do.

    Raises:
        ValueError: the text is not a version.
    """
    match = VERSION.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a version such as 1.2.3")
    return tuple(map(int, match.groups()))


def unvalidated_version(inventory: Inventory) -> Iterator[Finding]:
    """Refuse an inventory that breaking changes since its validation may concern, and list these."""
    if NAME not in inventory.options:
        return
    for host in inventory.hostvars:
        value, reason = inventory.read(host, NAME)
        if not reason:  # else failing_templates reports it
            for message in refusals(value, inventory):
                yield host, message


def refusals(value: object, inventory: Inventory) -> Iterator[str]:
    """Yield the objections to the version in `value`, each breaking change as a message of its own."""
    current, now = inventory.version, parse(inventory.version)
    remedy = f"check the inventory against CHANGELOG.md, then set {NAME}: {current} in its group_vars/all/main.yml"
    try:
        validated = () if value is None else parse(str(value))
    except ValueError as error:
        yield f"{NAME}: {error}; {remedy}"
        return
    changes = [change for change in inventory.breaking_changes if validated < parse(change["version"]) <= now]
    if value is None:
        yield f"{NAME}: undefined, and this is Phoenix {current}; {remedy}"
    elif validated > now:
        yield f"{NAME}: {value} is newer than this checkout, Phoenix {current}; update the checkout, or {remedy}"
    elif changes:
        yield f"{NAME}: {value} is older than this checkout, Phoenix {current}; apply what follows, then {remedy}"
    for change in changes:
        yield f"breaking change in {change['version']}: {change['change']}; {change['fix']}"
