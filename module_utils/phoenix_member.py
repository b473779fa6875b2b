"""This host's member of the replica set, for the modules that ask it as a user."""

from __future__ import annotations

import sys
from typing import Any

from ansible.module_utils.basic import AnsibleModule

# Phoenix's package (role `toolkit`) and MongoDB's driver (role `mongodb`) on the managed host.
PACKAGES = ("/opt/phoenix/tools/current/phoenix.pyz", "/opt/pymongo/current")
ADDRESS = "127.0.0.1"
SELECTION_MS = 10000

# ca: path of the CAs that are trusted, with which the connection is by TLS; "" for one without.
CONNECTION: dict[str, Any] = {"port": {"type": "int", "default": 27017}, "ca": {"type": "str", "default": ""}}
LOGIN: dict[str, Any] = {
    **CONNECTION,
    "login_user": {"type": "str", "required": True},
    "login_password": {"type": "str", "required": True, "no_log": True},
}


def trusting(module: AnsibleModule) -> dict[str, str]:
    """The argument `ca` of the package's functions, where there is TLS: an earlier package does not know it."""
    return {"ca": module.params["ca"]} if module.params["ca"] else {}


def lacking() -> str:
    """Make the packages importable; why they are not, or ""."""
    sys.path[:0] = PACKAGES
    try:
        import pymongo  # noqa: F401, PLC0415 - only the managed host has them

        import phoenix.database  # noqa: F401, PLC0415
    except ImportError as error:
        return f"{error}: the roles toolkit and mongodb install it; run site.yml for this host"
    return ""


def require(module: AnsibleModule) -> None:
    """Make the packages importable, or end the module."""
    if message := lacking():
        module.fail_json(msg=message)


def connect(module: AnsibleModule, user: str, password: str, **options: Any) -> Any:
    """A client of this member alone; the packages are importable."""
    from phoenix.database import replica_set  # noqa: PLC0415 - the package is on the managed host

    return replica_set.client(
        ADDRESS,
        module.params["port"],
        **trusting(module),
        username=user,
        password=password,
        serverSelectionTimeoutMS=SELECTION_MS,
        **options,
    )


def connect_as_login(module: AnsibleModule) -> Any:
    """A client of this member, as the user of the module's options."""
    return connect(module, module.params["login_user"], module.params["login_password"])
