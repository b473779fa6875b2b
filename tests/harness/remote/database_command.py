#!/usr/bin/python3
"""Run a database command on the member of this host and print its answer as JSON. Needs pymongo.

usage: database_command.py < {"user", "password", "database", "command"} as JSON; no user: without a login

A refused command prints {"code": its number}: 13 not authorized, 18 authentication failed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pymongo
from pymongo.errors import OperationFailure

# Where the member runs with TLS, by the CAs that the host's clients trust.
TLS: dict[str, Any] = (
    {"tls": True, "tlsCAFile": "/etc/ssl/phoenix/database-ca.pem"} if Path("/run/mongodb/mongod.conf").exists() else {}
)


def main() -> None:
    order = json.load(sys.stdin)
    login = {"username": order["user"], "password": order["password"]} if order.get("user") else {}
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(
        "127.0.0.1", directConnection=True, serverSelectionTimeoutMS=2000, **login, **TLS
    )
    try:
        answer = client[order["database"]].command(order["command"])
    except OperationFailure as error:
        answer = {"code": error.code}
    print(json.dumps(answer, default=str))


if __name__ == "__main__":
    main()
