"""What a provider and its client say to each other, as JSON: docs/provider.schema.json is the same for programs.

Whatever comes from the other side is checked here, value by value: a provider may be anybody's script.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

VERSION = 1
ACTIONS = ("list", "create", "delete", "quota")
STATES = ("creating", "running", "stopped", "deleting", "error")
# A host name by RFC 1123, in lower case.
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
# What every provider can keep in a label or tag.
FLEET = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
ID = re.compile(r"[!-~]{1,200}")
USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
PUBLIC_KEY = re.compile(r"[a-z0-9@.-]+ [A-Za-z0-9+/]+={0,2}( [ -~]*)?")
HOST_KEY = re.compile(r"ssh-ed25519 [A-Za-z0-9+/]+={0,2}")


class Error(Exception):
    """An action that failed; `kind` is the error's class in the contract."""

    kind = "failed"


class Failed(Error):
    """The provider could not do it; it may succeed later."""


class Unavailable(Error):
    """The provider does not answer, not in time, or not in the contract's terms: nobody knows what it did."""

    kind = "unavailable"


class Quota(Error):
    """No more hosts are allowed."""

    kind = "quota"


class Invalid(Error):
    """The request can't be carried out as it is: a setting is missing or wrong."""

    kind = "invalid"


class Conflict(Error):
    """The name belongs to a host without the fleet's tag."""

    kind = "conflict"


class Foreign(Error):
    """The host to delete has not got the fleet's tag."""

    kind = "foreign"


ERRORS: Mapping[str, type[Error]] = {
    error.kind: error for error in (Failed, Unavailable, Quota, Invalid, Conflict, Foreign)
}


@dataclass(frozen=True)
class Host:
    """A host of the fleet at its provider. host_key: its public SSH key, "" where the provider does not keep it."""

    id: str
    name: str
    address: str  # "" until the provider has given it one
    state: str
    host_key: str = ""


@dataclass(frozen=True)
class Limit:
    """How many hosts are allowed (None: any number), and how many there are."""

    max: int | None
    used: int


@dataclass(frozen=True)
class Spec:
    """The host to create. host_key: the private and the public SSH host key; user_data: the same as cloud-config."""

    image: str
    user: str
    authorized_keys: Sequence[str]
    host_key: Mapping[str, str]
    user_data: str
    size: Mapping[str, Any] = field(default_factory=dict)
    network: str = ""
    address: str = ""


@dataclass(frozen=True)
class Request:
    """One action. name and spec: of create; id: of delete."""

    action: str
    fleet: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    spec: Spec | None = None
    id: str = ""

    def json(self) -> dict[str, Any]:
        """The request as it is sent: only what its action has."""
        sent: dict[str, Any] = {"version": VERSION, "action": self.action, "fleet": self.fleet}
        sent["settings"] = dict(self.settings)
        if self.action == "create" and self.spec is not None:
            sent.update(name=self.name, spec=asdict(self.spec))
        elif self.action == "delete":
            sent["id"] = self.id
        return sent


def _mapping(value: Any, what: str, required: Sequence[str], optional: Sequence[str] = ()) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is not an object: {_shown(value)}")
    missing = sorted(set(required) - set(value))
    unknown = sorted(set(value) - set(required) - set(optional))
    if missing or unknown:
        named = {"without": missing, "with unknown": unknown}
        raise ValueError(f"{what} " + " and ".join(f"{how} {', '.join(keys)}" for how, keys in named.items() if keys))
    return value


def _shown(value: Any) -> str:
    return ascii(value)[:100]


def _text(value: Any, what: str, pattern: re.Pattern[str] | None = None) -> str:
    if not isinstance(value, str) or (pattern is not None and not pattern.fullmatch(value)):
        raise ValueError(f"{what} is {_shown(value)}, which is not valid")
    return value


def _address(value: Any, what: str) -> str:
    text = _text(value, what)
    try:
        return str(ipaddress.ip_address(text)) if text else ""
    except ValueError:
        raise ValueError(f"{what} is {_shown(value)}, not an IP address") from None


def host(value: Any) -> Host:
    """Read one host of a provider's answer.

    Raises:
        ValueError: it is not in the contract's terms.
    """
    found = _mapping(value, "a host", ("id", "name", "address", "state"), ("host_key",))
    state = _text(found["state"], "a host's state")
    if state not in STATES:
        raise ValueError(f"a host's state is {_shown(state)}, not one of {', '.join(STATES)}")
    key = _text(found.get("host_key", ""), "a host's host_key")
    return Host(
        id=_text(found["id"], "a host's id", ID),
        name=_text(found["name"], "a host's name", NAME),
        address=_address(found["address"], "a host's address"),
        state=state,
        host_key=_text(key, "a host's host_key", HOST_KEY) if key else "",
    )


def hosts(value: Any) -> list[Host]:
    """Read the answer to `list`. Raises ValueError: it is not in the contract's terms, or two hosts are one."""
    found = _mapping(value, "the answer to list", ("hosts",))["hosts"]
    if not isinstance(found, list):
        raise ValueError(f"hosts is not a list: {_shown(found)}")
    read = [host(one) for one in found]
    for what in ("id", "name"):
        seen = [getattr(one, what) for one in read]
        twice = sorted({one for one in seen if seen.count(one) > 1})
        if twice:
            raise ValueError(f"two hosts have the {what} {', '.join(twice)}")
    return read


def created(value: Any, name: str) -> Host:
    """Read the answer to `create`. Raises ValueError: it is not in the contract's terms, or another host."""
    made = host(_mapping(value, "the answer to create", ("host",))["host"])
    if made.name != name:
        raise ValueError(f"the host is {made.name}, not {name}")
    return made


def deleted(value: Any) -> bool:
    """Read the answer to `delete`. Raises ValueError: it is not in the contract's terms."""
    answer = _mapping(value, "the answer to delete", ("deleted",))["deleted"]
    if not isinstance(answer, bool):
        raise ValueError(f"deleted is {_shown(answer)}, not true or false")
    return answer


def limit(value: Any) -> Limit:
    """Read the answer to `quota`. Raises ValueError: it is not in the contract's terms."""
    found = _mapping(value, "the answer to quota", ("max", "used"))
    for what in ("max", "used"):
        number = found[what]
        if (type(number) is not int or number < 0) and not (what == "max" and number is None):
            raise ValueError(f"{what} is {_shown(number)}, not a whole number")
    return Limit(found["max"], found["used"])


def error(value: Any) -> Error | None:
    """The error of an answer; None without one. Raises ValueError: it is not in the contract's terms."""
    if not isinstance(value, dict) or "error" not in value:
        return None
    found = _mapping(_mapping(value, "the answer", ("error",))["error"], "the error", ("class", "message"))
    kind = _text(found["class"], "the error's class")
    message = " ".join(_text(found["message"], "the error's message").split())[:1000]
    if kind not in ERRORS:
        raise ValueError(f"the error's class is {_shown(kind)}, not one of {', '.join(sorted(ERRORS))}")
    return ERRORS[kind](message.encode("ascii", "backslashreplace").decode())


def _spec(value: Any) -> Spec:
    found = _mapping(
        value,
        "spec",
        ("image", "user", "authorized_keys", "host_key", "user_data"),
        ("size", "network", "address"),
    )
    keys = found["authorized_keys"]
    if not isinstance(keys, list) or not keys:
        raise ValueError("spec.authorized_keys has no key: nobody could log in")
    pair = _mapping(found["host_key"], "spec.host_key", ("private", "public"))
    size = found.get("size", {})
    if not isinstance(size, dict):
        raise ValueError(f"spec.size is not an object: {_shown(size)}")
    return Spec(
        image=_text(found["image"], "spec.image", re.compile(r"\S+")),
        user=_text(found["user"], "spec.user", USER),
        authorized_keys=[_text(key, "a key of spec.authorized_keys", PUBLIC_KEY) for key in keys],
        host_key={
            "private": _text(pair["private"], "spec.host_key.private"),
            "public": _text(pair["public"], "spec.host_key.public", HOST_KEY),
        },
        user_data=_text(found["user_data"], "spec.user_data"),
        size=size,
        network=_text(found.get("network", ""), "spec.network"),
        address=_address(found.get("address", ""), "spec.address"),
    )


def request(value: Any) -> Request:
    """Read a request, as a provider does.

    Raises:
        ValueError: it is not in the contract's terms.
    """
    own = {"create": ("name", "spec"), "delete": ("id",)}
    action = value.get("action") if isinstance(value, dict) else None
    found = _mapping(value, "the request", ("version", "action", "fleet", "settings", *own.get(str(action), ())))
    if found["version"] != VERSION or found["action"] not in ACTIONS:
        raise ValueError(
            f"version {_shown(found['version'])} and action {_shown(action)} are not known: "
            f"this provider speaks version {VERSION}, {', '.join(ACTIONS)}"
        )
    if not isinstance(found["settings"], dict):
        raise ValueError(f"settings is not an object: {_shown(found['settings'])}")
    return Request(
        action=found["action"],
        fleet=_text(found["fleet"], "fleet", FLEET),
        settings=found["settings"],
        name=_text(found["name"], "name", NAME) if "name" in found else "",
        spec=_spec(found["spec"]) if "spec" in found else None,
        id=_text(found["id"], "id", ID) if "id" in found else "",
    )
