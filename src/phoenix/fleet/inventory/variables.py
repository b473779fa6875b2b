"""Checks of single variables: unknown, missing, failing, or with an unsupported value."""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from phoenix.fleet.inputs import mongodb_version_error
from phoenix.fleet.inventory.model import PLAYBOOKS, Finding, Inventory
from phoenix.fleet.inventory.renamed import RENAMED
from phoenix.fleet.uri import is_connection_string, source_error, url_error

# Where a role runs, so that its secrets are required only there. Those of other roles are required where the
# inventory uses their namespace.
ROLE_GROUPS = {
    PLAYBOOKS: ("control",),
    "jenkins": ("jenkins",),
    "mongodb": ("db",),
    "nodejs": ("app", "control"),
    "phoenix": ("app",),
    "nginx": ("lb",),
    "release": ("control",),
}

PLACEHOLDER = re.compile(r"^(change[-_ ]?me|todo|fixme|xxx+|secret|password|example|<.*>)$", re.IGNORECASE)
UNDEFINED_NAME = re.compile(r"'(\w+)' is undefined")


def unknown_variables(inventory: Inventory) -> Iterator[Finding]:
    options = sorted(inventory.options)
    for host in inventory.hostvars:
        for name in inventory.names(host):
            if name in RENAMED:
                yield host, f"{name}: renamed; set {RENAMED[name]} instead"
            elif name not in inventory.options and name not in inventory.late_variables:
                # What only a play sets is no setting: to follow it would change nothing.
                near = difflib.get_close_matches(name, options, n=1)
                fix = f"did you mean {near[0]}?" if near else "remove it, or use a name from the roles' README files"
                yield host, f"{name}: no role has a variable of this name; {fix}"


def failing_templates(inventory: Inventory) -> Iterator[Finding]:
    for host in inventory.hostvars:
        for name in inventory.names(host):
            if name not in inventory.options:
                continue
            _, reason = inventory.read(host, name)
            undefined = UNDEFINED_NAME.search(reason)
            # Facts and results of earlier plays do not exist yet; the roles' own checks cover values that need them.
            late = "has no attribute" in reason or (
                undefined and (undefined[1] in inventory.late_variables or undefined[1].startswith("ansible_"))
            )
            if reason and not late and not _required_secret(inventory, name):
                yield (
                    host,
                    f"{name}: its value can't be evaluated ({reason}); define what it refers to, or correct it",
                )


def _required_secret(inventory: Inventory, name: str) -> bool:
    option = inventory.options.get(name, {})
    return bool(option.get("required") and option.get("no_log"))


def missing_secrets(inventory: Inventory) -> Iterator[Finding]:
    for role, options in inventory.specs.items():
        if role in ROLE_GROUPS:
            hosts = [
                host for group in ROLE_GROUPS[role] for host in inventory.members(group) if host in inventory.hostvars
            ]
        else:
            hosts = [
                host for host in inventory.hostvars if any(n.startswith(f"{role}_") for n in inventory.names(host))
            ]
        for name in options:
            if not _required_secret(inventory, name):
                continue
            for host in hosts:
                value, reason = inventory.read(host, name)
                if reason:
                    undefined = UNDEFINED_NAME.search(reason)
                    if not (undefined and undefined[1] in inventory.late_variables):
                        yield (
                            host,
                            f"{name}: this secret's value can't be evaluated ({reason}); define it in a vaulted file",
                        )
                elif value is None or not str(value).strip():
                    seen = "empty" if name in inventory.hostvars[host] else "undefined"
                    yield host, f"{name}: this secret is {seen}; define it for the host's group, in a vaulted file"
                elif PLACEHOLDER.match(str(value).strip()):
                    yield host, f"{name}: this secret is still a placeholder; replace it by a value of your own"


def missing_variables(inventory: Inventory) -> Iterator[Finding]:
    for role, groups in ROLE_GROUPS.items():
        for name, option in inventory.specs.get(role, {}).items():
            if not option.get("required") or option.get("no_log") or name in inventory.late_variables:
                continue
            for host in dict.fromkeys(host for group in groups for host in inventory.members(group)):
                # failing_templates reports a value whose template fails.
                value, reason = inventory.read(host, name)
                if not reason and value is None:
                    yield host, f"{name}: undefined, but the role {role} requires it; define it for the host's group"


_TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "int": (
        lambda v: not isinstance(v, bool) and re.fullmatch(r"[+-]?\d+", str(v).strip()) is not None,
        "a whole number",
    ),
    "float": (lambda v: re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)", str(v).strip()) is not None, "a number"),
    "bool": (
        lambda v: str(v).strip().lower() in {"true", "false", "yes", "no", "on", "off", "1", "0", "y", "n", "t", "f"},
        "true or false",
    ),
    "list": (lambda v: isinstance(v, list), "a list"),
    "dict": (lambda v: isinstance(v, Mapping), "a dictionary"),
    "str": (lambda v: not isinstance(v, (list, Mapping)), "a text"),
}


def unsupported_values(inventory: Inventory) -> Iterator[Finding]:
    for host in inventory.hostvars:
        for name in inventory.names(host):
            option = inventory.options.get(name)
            value = inventory.value(host, name) if option is not None else None
            if option is None or value is None:
                continue
            seen = inventory.shown(name, value)
            fits, expected = _TYPES.get(str(option.get("type", "str")), (lambda _: True, ""))
            choices = option.get("choices")
            if not fits(value):
                yield host, f"{name}: {seen} isn't {expected}; give {expected}"
            elif choices and not isinstance(value, (list, Mapping)) and str(value) not in map(str, choices):
                yield host, f"{name}: {seen} isn't supported; choose one of {', '.join(map(str, choices))}"
            elif name == "mongodb_version" and mongodb_version_error(value):
                yield host, mongodb_version_error(value)
            elif name == "phoenix_url" and url_error(str(value)):
                yield host, f"{name}: {url_error(str(value))}"
            elif name in ("phoenix_source", "release_source") and source_error(str(value)):
                yield host, f"{name}: {source_error(str(value))}"
            elif name == "phoenix_db_connection_string" and not is_connection_string(str(value)):
                yield (
                    host,
                    (
                        f"{name}: {seen} is not a mongodb:// URI with an encoded password; build it with the filter "
                        "mongodb_uri, which encodes @ : / ? # and %"
                    ),
                )
