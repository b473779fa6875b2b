"""A new host's first configuration for cloud-init: who may log in, and its SSH host key, made before the host is.

https://cloudinit.readthedocs.io/en/22.4.2/topics/modules.html: JSON is YAML.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def host_key() -> dict[str, str]:
    """Make an SSH host key: its private and its public half, without a comment."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "key")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True)
        return {"private": path.read_text(), "public": path.with_suffix(".pub").read_text().strip()}


def user_data(name: str, user: str, authorized_keys: Sequence[str], key: Mapping[str, str]) -> str:
    """The user data of a host: a user with sudo and keys, and the host's own key instead of those it would make."""
    config: dict[str, Any] = {
        "hostname": name,
        "users": [
            {
                "name": user,
                "shell": "/bin/bash",
                "lock_passwd": True,
                "sudo": "ALL=(ALL) NOPASSWD:ALL",
                "ssh_authorized_keys": list(authorized_keys),
            }
        ],
        "disable_root": True,
        "ssh_pwauth": False,
        "ssh_deletekeys": True,
        "ssh_keys": {"ed25519_private": key["private"], "ed25519_public": key["public"]},
    }
    return "#cloud-config\n" + json.dumps(config, indent=1) + "\n"


def network_config(address: str, gateway: str, prefix: int, nameservers: Sequence[str]) -> str:
    """The network configuration (version 2) of a host with one interface, whatever the kernel calls it."""
    interface = {
        "match": {"name": "e*"},
        "addresses": [f"{address}/{prefix}"],
        "routes": [{"to": "::/0" if ":" in gateway else "0.0.0.0/0", "via": gateway}],
        "nameservers": {"addresses": list(nameservers)},
    }
    return json.dumps({"version": 2, "ethernets": {"uplink": interface}}, indent=1) + "\n"
