"""Checks of the hosts that a provider makes."""

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from phoenix.fleet.inventory.model import Finding, Inventory
from phoenix.provider import contract, libvirt
from phoenix.provider.settings import Settings, parse

DOCKER_SETTINGS = ("max_hosts",)
# Of hosts on demand, where the variable is not called as the daemon's setting.
DEMAND_NAMES = {"provider_settings": "demand_settings"}


def unprovidable_hosts(inventory: Inventory) -> Iterator[Finding]:
    """Hosts that have a provider and lack what it needs."""
    if "phoenix_provider" not in inventory.options:
        return
    for host in inventory.hostvars:
        provider = str(inventory.value(host, "phoenix_provider") or "")
        settings = inventory.value(host, "phoenix_provider_settings")
        size = inventory.value(host, "phoenix_provider_size")
        if provider and isinstance(settings, Mapping) and isinstance(size, Mapping):
            for message in (*_identity(inventory, host), *_settings(provider, settings, size)):
                yield host, message


def unmakeable_hosts(inventory: Inventory) -> Iterator[Finding]:
    """Settings of hosts on demand with which none could be made, or that are another host's."""
    control = [host for host in inventory.members("control") if host in inventory.hostvars]
    if not control or not inventory.value(control[0], "demand_command"):
        return
    values = {
        name.name: inventory.value(control[0], DEMAND_NAMES.get(name.name, f"demand_{name.name}"))
        for name in fields(Settings)
    }
    if None in values.values():
        return  # a template that fails, or a variable that is missing: both are findings of their own
    numbers = ("room", "instances_per_host", "creations_per_hour", "boot_seconds", "idle_seconds")
    try:
        made = parse({**values, **{name: int(values[name]) for name in numbers}})
    except (ValueError, TypeError) as error:
        yield control[0], str(error)
        return
    for host in inventory.members("app"):
        port = inventory.value(host, "firewall_ssh_port") if host in inventory.hostvars else None
        if port is not None and str(port) != "22":
            yield (
                host,
                f"firewall_ssh_port: {port}, and hosts on demand, made from its image, are reached at 22; give 22",
            )
    for host in inventory.hostvars:
        if str(inventory.value(host, "phoenix_address")) in made.addresses:
            yield host, f"demand_addresses: {inventory.value(host, 'phoenix_address')} is this host's; reserve another"


def _identity(inventory: Inventory, host: str) -> Iterator[str]:
    if not contract.NAME.fullmatch(host):
        yield (
            "phoenix_provider: the host's name in the inventory becomes its own; "
            "rename it to at most 63 of a to z, 0 to 9 and -"
        )
    address = inventory.value(host, "ansible_host")
    try:
        ipaddress.ip_address(str(address))
    except ValueError:
        yield f"ansible_host: {address!r} is no IP address; give the one that the provider shall give the host"
    if not contract.USER.fullmatch(str(inventory.value(host, "ansible_user") or "")):
        yield (
            f"ansible_user: {inventory.value(host, 'ansible_user')!r}; "
            "name the user that phoenix_provider shall create, such as debian"
        )
    keys = inventory.value(host, "phoenix_provider_authorized_keys")
    if not keys or not all(contract.PUBLIC_KEY.fullmatch(str(key)) for key in keys):
        yield (
            f"phoenix_provider_authorized_keys: {keys!r}; give the public keys that may log in, "
            "or set ansible_ssh_private_key_file, beside which FILE.pub is"
        )
    if not inventory.value(host, "phoenix_provider_image"):
        yield "phoenix_provider_image: empty; name the image that the host is made from"
    fleet = str(inventory.value(host, "phoenix_provider_fleet") or "")
    if not contract.FLEET.fullmatch(fleet):
        yield f"phoenix_provider_fleet: {fleet!r} can't be a tag; use letters, digits, '.', '_' and '-'"


def _settings(provider: str, settings: Mapping[str, Any], size: Mapping[str, Any]) -> Iterator[str]:
    if provider == "exec":
        command = settings.get("command")
        if not isinstance(command, list) or not command or not all(isinstance(word, str) for word in command):
            yield (
                f"phoenix_provider_settings: command is {command!r}; "
                "give your provider's command and its arguments as a list"
            )
        return
    known = {"libvirt": tuple(libvirt.DEFAULTS), "docker": DOCKER_SETTINGS}.get(provider)
    if known is None:
        yield f"phoenix_provider: {provider!r} is not known; use docker, libvirt or exec, or leave it empty"
        return
    unknown = sorted(set(settings) - set(known))
    if unknown:
        yield f"phoenix_provider_settings: {provider} has no {', '.join(unknown)}; use {', '.join(known)}"
    if provider == "libvirt":
        try:
            libvirt.Libvirt({name: settings[name] for name in settings if name in known})
            libvirt.size(size)
        except (ValueError, TypeError, contract.Error) as error:
            yield f"phoenix_provider_settings: {error}; correct it"
        if not settings.get("gateway"):
            yield (
                "phoenix_provider_settings: gateway is missing; "
                "give the gateway of phoenix_provider_network with its prefix length, such as 192.0.2.1/24"
            )
    elif size:
        yield f"phoenix_provider_size: {dict(size)!r}; a container has this machine's size: leave it empty"
