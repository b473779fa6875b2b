"""Checks of a whole inventory, before anything is changed and without facts.

Each check yields (host, message); a message names the variable, the value seen and the mend. A secret's value is
never shown. The values of an Ansible inventory are templates that may fail when they are read: that becomes a message
as well.
"""

import difflib
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

Specs = Mapping[str, Mapping[str, Mapping[str, Any]]]
Finding = tuple[str, str]

GROUPS = ("lb", "app", "db", "control")

# Where a role runs, so that its secrets are asked for there only. A role that isn't named is asked for where the
# inventory uses its namespace.
ROLE_GROUPS = {
    "mongodb": ("db",),
    "nodejs": ("app", "control"),
    "phoenix": ("app",),
    "nginx": ("lb",),
    "release": ("control",),
}

MONGODB_SERIES = ("5.0", "6.0", "7.0")
MAX_VOTERS = 7  # MongoDB's limit: https://www.mongodb.com/docs/manual/reference/limits/
PLACEHOLDER = re.compile(r"^(change[-_ ]?me|todo|fixme|xxx+|secret|password|example|<.*>)$", re.IGNORECASE)
CHECKSUM = re.compile(r"^sha256:[0-9a-fA-F]{64}$")
_WRAPPER = "A captured exception marker was tripped: "
UNDEFINED_NAME = re.compile(r"'(\w+)' is undefined")


def known_variables(roles_dir: str | os.PathLike[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return {role: {variable: its specification}} out of each role's meta/argument_specs.yml, all entry points."""
    known: dict[str, dict[str, dict[str, Any]]] = {}
    for path in sorted(Path(roles_dir).glob("*/meta/argument_specs.yml")):
        document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        options = known.setdefault(path.parent.parent.name, {})
        for entry_point in (document.get("argument_specs") or {}).values():
            for name, option in (entry_point.get("options") or {}).items():
                options.setdefault(name, option or {})
    return known


@dataclass(frozen=True)
class Inventory:
    """The inventory as the checks see it. `late_variables` are names that only a running play defines."""

    hostvars: Mapping[str, Mapping[str, Any]]
    groups: Mapping[str, Sequence[str]]
    specs: Specs
    extra_variables: frozenset[str] = frozenset()
    late_variables: frozenset[str] = frozenset()
    options: dict[str, Mapping[str, Any]] = field(default_factory=dict, init=False)
    _seen: dict[tuple[str, str], tuple[Any, str]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        for role in self.specs.values():
            self.options.update(role)
        # Ansible assembles a host's variables anew at each access: once is enough.
        object.__setattr__(self, "hostvars", {str(host): self.hostvars[host] for host in self.hostvars})

    def members(self, group: str) -> list[str]:
        return list(self.groups.get(group) or [])

    def names(self, host: str) -> list[str]:
        """The host's variables within the project's namespaces."""
        prefixes = tuple(f"{role}_" for role in self.specs)
        return sorted(name for name in map(str, self.hostvars[host]) if name.startswith(prefixes))

    def read(self, host: str, name: str) -> tuple[Any, str]:
        """Return (value, "") or, when the value's template fails, (None, why)."""
        if (host, name) not in self._seen:
            self._seen[host, name] = self._evaluated(host, name)
        return self._seen[host, name]

    def _evaluated(self, host: str, name: str) -> tuple[Any, str]:
        try:
            variables = self.hostvars[host]
            if name not in variables:
                return self.options.get(name, {}).get("default"), ""
            value = variables[name]
            reason = _undefined_reason(value)
            return (None, reason.replace(_WRAPPER, "")) if reason else (_plain(value), "")
        except Exception as error:  # noqa: BLE001 - whatever a template raises is a finding, not a traceback
            return None, _reason(error)

    def value(self, host: str, name: str) -> Any:
        return self.read(host, name)[0]

    def is_secret(self, name: str) -> bool:
        return bool(self.options.get(name, {}).get("no_log"))

    def shown(self, name: str, value: Any) -> str:
        return "(hidden)" if self.is_secret(name) else repr(value)


def _reason(error: BaseException) -> str:
    # Ansible wraps the error of a value in that of its user; the first is what the operator needs.
    return " ".join(str(error).replace(_WRAPPER, "").split()) or type(error).__name__


def _undefined_reason(value: Any) -> str:
    """Jinja's undefined values and Ansible's markers fail on use; they are recognised without importing either."""
    if any(kind.__name__ in ("Undefined", "Marker") for kind in type(value).__mro__):
        return str(
            getattr(value, "_undefined_message", None) or f"'{getattr(value, '_undefined_name', '?')}' is undefined"
        )
    return ""


def _plain(value: Any) -> Any:
    """A copy in plain Python types: a lazy container fails here, inside the guard, not in the middle of a check."""
    reason = _undefined_reason(value)
    if reason:
        raise ValueError(reason)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def unknown_variables(inventory: Inventory) -> Iterator[Finding]:
    known = sorted(set(inventory.options) | inventory.extra_variables)
    for host in inventory.hostvars:
        for name in inventory.names(host):
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                mend = (
                    f"did you mean {near[0]}?" if near else "remove it, or take a name out of the roles' README files"
                )
                yield host, f"{name}: no role has a variable of this name; {mend}"


def empty_groups(inventory: Inventory) -> Iterator[Finding]:
    for group in GROUPS:
        if not inventory.members(group):
            yield "", f"group {group}: it has no host (hosts seen: []); add at least one host to it in the inventory"


def failing_templates(inventory: Inventory) -> Iterator[Finding]:
    for host in inventory.hostvars:
        for name in inventory.names(host):
            if name not in inventory.options:
                continue
            _, reason = inventory.read(host, name)
            undefined = UNDEFINED_NAME.search(reason)
            # Facts and the results of earlier plays aren't there yet: what needs them is left to the roles' own checks.
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
                # A value whose template fails is judged by failing_templates.
                value, reason = inventory.read(host, name)
                if not reason and value is None:
                    yield host, f"{name}: undefined, but the role {role} requires it; define it for the host's group"


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


@lru_cache(maxsize=64)
def _sha256(path: str, size: int, modified: int) -> str:
    """Size and time of change are part of the key: the same archive on many hosts is read once."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def bad_archives(inventory: Inventory) -> Iterator[Finding]:
    for host in inventory.hostvars:
        for name in inventory.names(host):
            sibling = f"{name}_checksum"
            if not name.endswith("_archive") or not (
                sibling in inventory.options or sibling in inventory.hostvars[host]
            ):
                continue
            archive, checksum = inventory.value(host, name), inventory.value(host, sibling)
            if not isinstance(archive, str) or not archive:
                continue
            if not isinstance(checksum, str) or not checksum:
                yield host, f"{sibling}: missing for {name} {archive!r}; set it to sha256:<64 hexadecimal digits>"
                continue
            if not CHECKSUM.match(checksum):
                yield host, f"{sibling}: {checksum!r} is no checksum; write it as sha256:<64 hexadecimal digits>"
                continue
            if "://" in archive and not archive.startswith("file://"):
                continue
            path = Path(archive.removeprefix("file://")).expanduser()
            try:
                status = path.stat()
                digest = _sha256(str(path), status.st_size, status.st_mtime_ns)
            except OSError as error:
                yield (
                    host,
                    f"{name}: {archive!r} can't be read on this machine ({error.strerror}); fetch or correct it",
                )
                continue
            if digest != checksum.partition(":")[2].lower():
                yield (
                    host,
                    (
                        f"{sibling}: {checksum!r} differs from the archive {archive!r}, which has "
                        f"sha256:{digest}; fetch the archive again, or correct the checksum if you trust it"
                    ),
                )


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
            fits, wanted = _TYPES.get(str(option.get("type", "str")), (lambda _: True, ""))
            choices = option.get("choices")
            if not fits(value):
                yield host, f"{name}: {seen} isn't {wanted}; give {wanted}"
            elif choices and not isinstance(value, (list, Mapping)) and str(value) not in map(str, choices):
                yield host, f"{name}: {seen} isn't supported; choose one of {', '.join(map(str, choices))}"
            elif name == "mongodb_version" and not str(value).startswith(
                tuple(f"{series}." for series in MONGODB_SERIES)
            ):
                yield host, f"{name}: {seen} isn't supported; choose a release of {', '.join(MONGODB_SERIES)}"
            elif name == "phoenix_db_connection_string" and not _is_connection_string(str(value)):
                yield (
                    host,
                    (
                        f"{name}: {seen} isn't a mongodb:// address with an encoded password; build it with the filter "
                        "mongodb_uri, which encodes @ : / ? # and %"
                    ),
                )


def _is_connection_string(text: str) -> bool:
    scheme, _, rest = text.partition("://")
    if scheme not in ("mongodb", "mongodb+srv") or not rest:
        return False
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    userinfo, at, hosts = authority.rpartition("@")
    # An unencoded / ? or # ends the authority early and leaves the @ behind it; an unencoded @ or : stays in it.
    if not hosts or userinfo.endswith(":") or "@" in rest[len(authority) :]:
        return False
    return not at or (
        "@" not in userinfo and userinfo.count(":") <= 1 and not re.search(r"%(?![0-9A-Fa-f]{2})", userinfo)
    )


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


CHECKS: tuple[Callable[[Inventory], Iterator[Finding]], ...] = (
    empty_groups,
    unknown_variables,
    failing_templates,
    missing_secrets,
    missing_variables,
    unsupported_values,
    even_voters,
    nobody_told,
    clashing_ports,
    bad_archives,
)


def errors(
    hostvars: Mapping[str, Mapping[str, Any]],
    groups: Mapping[str, Sequence[str]],
    specs: Specs,
    extra_variables: Iterable[str] = (),
    late_variables: Iterable[str] = (),
) -> list[str]:
    """Return every finding as one message each, with the hosts it concerns; an empty list means a sound inventory.

    `hostvars` maps host to variables, `groups` maps group to hosts, `specs` is what known_variables() returns.
    `extra_variables` are names in the project's namespaces that only inventories use.
    """
    inventory = Inventory(hostvars, groups, specs, frozenset(extra_variables), frozenset(late_variables))
    found: dict[str, list[str]] = {}
    for check in CHECKS:
        for host, message in check(inventory):
            hosts = found.setdefault(message, [])
            if host and host not in hosts:
                hosts.append(host)
    return [f"{message} [{', '.join(hosts)}]" if hosts else message for message, hosts in found.items()]
