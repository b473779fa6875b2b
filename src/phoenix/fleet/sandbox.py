"""The sandbox of every unit of Phoenix: one set of systemd's settings, and each unit's exceptions to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Union

# A list is a setting that is given several times; None leaves the setting to the unit's vendor.
Value = Union[str, Sequence[str], None]

BASELINE: dict[str, Value] = {
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "AmbientCapabilities": "",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "ProtectClock": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectProc": "invisible",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "SystemCallArchitectures": "native",
    "SystemCallFilter": "@system-service",
    "SystemCallErrorNumber": "EPERM",
    "UMask": "0077",
}


def settings(exceptions: Mapping[str, Value]) -> dict[str, Value]:
    """Return the baseline with the exceptions in place; settings that the baseline lacks follow it.

    Raises ValueError for an exception that the baseline states already: a unit lists only what differs.
    """
    needless = [key for key, value in exceptions.items() if key in BASELINE and BASELINE[key] == value]
    if needless:
        raise ValueError(f"sandbox: {', '.join(needless)} as in the baseline; leave it out of the unit's exceptions")
    return {**BASELINE, **exceptions}


def lines(exceptions: Mapping[str, Value]) -> str:
    """Return the settings as the text for a unit's section [Service]."""
    text = []
    for key, value in settings(exceptions).items():
        if value is not None:
            text += [f"{key}={one}" for one in ([value] if isinstance(value, str) else value)]
    return "\n".join(text)
