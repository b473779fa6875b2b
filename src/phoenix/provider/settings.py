"""The configuration of hosts on demand, as the role `demand` writes it: JSON, every key known."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from phoenix.provider import contract
from phoenix.provider.lifecycle import Limits

PATH = Path("/etc/phoenix/demand.json")


@dataclass(frozen=True)
class Settings:
    """command: the provider's, with its arguments; room: instances that the inventory's own hosts hold; reference: the
    application host whose recorded configuration new hosts get. The addresses limit the number of hosts.
    """

    command: Sequence[str]
    fleet: str
    image: str
    user: str
    authorized_keys: Sequence[str]
    addresses: Sequence[str]
    room: int
    instances_per_host: int
    reference: str
    balancers: Sequence[str]
    provider_settings: Mapping[str, Any] = field(default_factory=dict)
    size: Mapping[str, Any] = field(default_factory=dict)
    network: str = ""
    prefix: str = "extra"
    creations_per_hour: int = 10
    boot_seconds: float = 300.0
    idle_seconds: float = 600.0

    @property
    def limits(self) -> Limits:
        return Limits(
            hosts=len(self.addresses),
            creations_per_hour=self.creations_per_hour,
            boot=self.boot_seconds,
            prefix=self.prefix,
            addresses=tuple(self.addresses),
        )


def errors(settings: Settings) -> list[str]:
    """What is wrong with the settings, each with the value and the fix; the role's preflight reports the same."""
    wrong = []
    for address in settings.addresses:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            wrong.append(f"demand_addresses: {address!r} is no IP address; give those reserved for hosts on demand")
    twice = sorted({address for address in settings.addresses if settings.addresses.count(address) > 1})
    if twice:
        wrong.append(f"demand_addresses: {', '.join(twice)} is there twice; give each once")
    if not contract.FLEET.fullmatch(settings.fleet):
        wrong.append(f"demand_fleet: {settings.fleet!r} can't be a tag; use letters, digits, '.', '_' and '-'")
    if not contract.NAME.fullmatch(f"{settings.prefix}-1"):
        wrong.append(f"demand_prefix: {settings.prefix!r} begins no host name; use a to z, 0 to 9 and -")
    if not contract.USER.fullmatch(settings.user):
        wrong.append(f"demand_user: {settings.user!r} is no user; name the one that the image lets in, such as debian")
    if not settings.image:
        wrong.append("demand_image: empty; name the image that hosts are made from")
    keys = settings.authorized_keys
    if not all(contract.PUBLIC_KEY.fullmatch(key) for key in keys):
        wrong.append(f"demand_authorized_keys: {keys!r}; give public keys, each in one line")
    for name, least in (("creations_per_hour", 1), ("boot_seconds", 10), ("idle_seconds", 1)):
        if getattr(settings, name) < least:
            wrong.append(f"demand_{name}: {getattr(settings, name)}; give {least} or more")
    return wrong


def parse(values: Any) -> Settings:
    """Raises ValueError: a key is missing or unknown, or a value is wrong."""
    if not isinstance(values, dict):
        raise ValueError("the configuration of hosts on demand is not an object")
    unknown = sorted(set(values) - {known.name for known in fields(Settings)})
    if unknown:
        raise ValueError(f"unknown keys: {', '.join(unknown)}")
    try:
        settings = Settings(**values)
    except TypeError as error:
        raise ValueError(str(error)) from error
    command = settings.command
    if not isinstance(command, list) or not command or not all(isinstance(word, str) for word in command):
        raise ValueError(f"demand_command: {command!r}; give the provider's command and its arguments as a list")
    wrong = errors(settings)
    if wrong:
        raise ValueError("; ".join(wrong))
    return settings


def load(path: Path = PATH) -> Settings:
    """Raises ValueError, with the file's name."""
    try:
        return parse(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
