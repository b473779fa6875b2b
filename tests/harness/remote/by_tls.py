"""How programs of the tests connect to the member of their host: by TLS where it runs with TLS, as the host's clients.

Copied beside a program that imports it (tests/harness/hosts.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

CAS = "/etc/ssl/phoenix/database-ca.pem"


def options(ca: str = CAS) -> dict[str, Any]:
    """The driver's options. ca: path of the CAs by which the server is verified."""
    return {"tls": True, "tlsCAFile": ca} if Path("/run/mongodb/mongod.conf").exists() else {}
