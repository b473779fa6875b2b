#!/usr/bin/python3
"""Print whether the member on this host is primary: True or False. Needs pymongo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pymongo

# Where the member runs with TLS, by the CAs that the host's clients trust.
TLS: dict[str, Any] = (
    {"tls": True, "tlsCAFile": "/etc/ssl/phoenix/database-ca.pem"} if Path("/run/mongodb/mongod.conf").exists() else {}
)


def main() -> None:
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(
        "127.0.0.1", 27017, directConnection=True, serverSelectionTimeoutMS=1000, **TLS
    )
    print(client.admin.command("hello")["isWritablePrimary"])


if __name__ == "__main__":
    main()
