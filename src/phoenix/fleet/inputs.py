"""Rules for inputs, stated once: the check of the whole inventory and the roles' own preflights both use them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MONGODB_SERIES = ("5.0", "6.0", "7.0")
MAX_VOTERS = 7  # MongoDB's limit: https://www.mongodb.com/docs/manual/reference/limits/
CHANNELS = {"email": ("host", "port", "sender", "to"), "webhook": ("url",), "slack": ("url",)}
_WORD = re.compile(r"[!-~]*")
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}")


def is_checksum(value: Any) -> bool:
    """Whether this is a SHA-256 as sha256sum prints it, in lower case, after `sha256:`."""
    return isinstance(value, str) and _CHECKSUM.fullmatch(value) is not None


def mongodb_version_error(version: Any) -> str:
    """Why this release of MongoDB is not supported; empty when it is."""
    if str(version).startswith(tuple(f"{series}." for series in MONGODB_SERIES)):
        return ""
    return f"mongodb_version: {str(version)!r} isn't supported; choose a release of {', '.join(MONGODB_SERIES)}"


def mongodb_step_error(version: Any, installed: str) -> str:
    """Why a member with the data of the installed release (a folder's name, or "") can't be given this one.

    A release reads the data of its own series and of the one before.
    """
    series = [".".join(str(one).split(".")[:2]) for one in (installed, version)]
    if not installed or any(one not in MONGODB_SERIES for one in series):
        return ""
    before, after = (MONGODB_SERIES.index(one) for one in series)
    if after - before in (0, 1):
        return ""
    way = (
        f"upgrade to {MONGODB_SERIES[before + 1]} first" if after > before else "restore a dump into a new replica set"
    )
    return f"mongodb_version: {version} can't follow {installed}, whose data it does not read; {way}"


def voters_error(members: Sequence[Any]) -> str:
    """Why these members can't vote as a replica set; empty when they can."""
    voters = [m for m in members if isinstance(m, Mapping) and str(m.get("votes", 1)) != "0"]
    names = ", ".join(str(m.get("host", m.get("address"))) for m in voters)
    if len(voters) % 2 == 0:
        return (
            f"mongodb_members: {len(voters)} voting members ({names}) is an even number, which can split into "
            "halves without a majority; add or remove a member, or give one votes: 0 and priority: 0"
        )
    if len(voters) > MAX_VOTERS:
        return (
            f"mongodb_members: {len(voters)} voting members ({names}), above the limit of {MAX_VOTERS}; "
            "give the others votes: 0 and priority: 0"
        )
    return ""


def port_errors(claims: Mapping[str, Any]) -> list[str]:
    """What is wrong with the ports of one host: no port, reserved, or taken twice.

    `claims` are ports, or lists of ports, by the setting that asks for them. The application's own have to be
    unprivileged.
    """
    owners: dict[int, str] = {}
    return [message for name, ports in claims.items() for message in _port_errors(name, ports, owners)]


def _port_errors(name: str, ports: Any, owners: dict[int, str]) -> Iterator[str]:
    for raw in ports if isinstance(ports, (list, tuple)) else [ports]:
        try:
            port = int(raw)
        except (TypeError, ValueError):
            yield f"{name}: {raw!r} is no port; give a number between 1 and 65535"
            continue
        lowest = 1024 if name.startswith("phoenix_") else 1
        if not lowest <= port <= 65535:
            yield f"{name}: port {port} can't be used; give a number between {lowest} and 65535"
        elif port in owners:
            yield f"{name}: port {port} is taken by {owners[port]} on the same host; give one of them another"
        else:
            owners[port] = name


def recipients_errors(recipients: Any, channels: Any, alarms_enabled: Any) -> list[str]:
    """What keeps alarms from reaching somebody: no recipient, an unknown channel, or one that lacks a key.

    Nothing of a channel but its name is in the messages: channels hold secrets.
    """
    recipients = recipients if isinstance(recipients, Mapping) else {}
    channels = channels if isinstance(channels, Mapping) else {}
    found = []
    if alarms_enabled and not recipients.get("default"):
        found.append(
            f"alerting_recipients: {dict(recipients)!r} names nobody under `default`, while alerting_enabled is "
            "true; name a channel of alerting_channels, or set alerting_enabled to false"
        )
    named = [name for listed in recipients.values() for name in ([listed] if isinstance(listed, str) else listed)]
    found += [
        f"alerting_recipients: it names the channel {name!r}, which alerting_channels does not have; add it there"
        for name in dict.fromkeys(named)
        if name not in channels
    ]
    found += [
        f"alerting_channels: {name!r} is a folder's name on control as well; give it letters, digits, -, _ and . alone"
        for name in channels
        if not _NAME.fullmatch(str(name))
    ]
    for name, channel in channels.items():
        kind = channel.get("type") if isinstance(channel, Mapping) else None
        if kind not in CHANNELS:
            found.append(f"alerting_channels: {name} has no type that is known; give {', '.join(CHANNELS)}")
            continue
        missing = [key for key in CHANNELS[kind] if key not in channel]
        if missing:
            found.append(f"alerting_channels: {name} lacks {', '.join(missing)}; add it")
        words = {"url": str(channel.get("url", "")).strip(), "token": str(channel.get("token", ""))}
        found += [
            f"alerting_channels: {name}.{key} holds a space, a line break or a letter that is not ASCII; give one word"
            for key, word in words.items()
            if not _WORD.fullmatch(word)
        ]
    return found


def precedence_error(precedence: Sequence[str]) -> str:
    """Why the order in which Ansible merges variables would let the playbooks override the inventory; or empty."""
    if list(precedence)[:1] == ["all_plugins_play"]:
        return ""
    return (
        f"precedence: {', '.join(precedence)}: the settings of the playbooks would override those of the inventory; "
        "run ansible-playbook from the top of the repository, whose ansible.cfg begins this list with "
        "all_plugins_play, or say the same in your own (or in ANSIBLE_PRECEDENCE)"
    )
