#!/usr/bin/python3
"""Run a database command on the member of this host and print its answer as JSON. Needs pymongo.

usage: database_command.py < {"user", "password", "database", "command", "ca"} as JSON; no user: without a login;
ca: the CAs (PEM) by which the server is verified, in place of those that the host trusts

A refused command prints {"code": its number}: 13 not authorized, 18 authentication failed; a server that is refused
{"refused": why}.
"""

from __future__ import annotations

import json
import sys
import tempfile
from typing import Any

import pymongo
from pymongo.errors import OperationFailure, ServerSelectionTimeoutError

from tests.harness.remote import by_tls


def main() -> None:
    order = json.load(sys.stdin)
    login = {"username": order["user"], "password": order["password"]} if order.get("user") else {}
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as given:
        given.write(order.get("ca", ""))
        given.flush()
        secure = by_tls.options(given.name) if order.get("ca") else by_tls.options()
        client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(
            "127.0.0.1", directConnection=True, serverSelectionTimeoutMS=2000, **login, **secure
        )
        try:
            answer = client[order["database"]].command(order["command"])
        except OperationFailure as error:
            answer = {"code": error.code}
        except ServerSelectionTimeoutError as error:
            if "certificate verify failed" not in str(error):
                raise
            answer = {"refused": str(error)}
    print(json.dumps(answer, default=str))


if __name__ == "__main__":
    main()
