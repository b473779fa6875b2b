#!/usr/bin/python3
"""Print whether the member on this host is primary: True or False. Needs pymongo."""

from __future__ import annotations

from typing import Any

import pymongo

from tests.harness.remote import by_tls


def main() -> None:
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(
        "127.0.0.1", 27017, directConnection=True, serverSelectionTimeoutMS=1000, **by_tls.options()
    )
    print(client.admin.command("hello")["isWritablePrimary"])


if __name__ == "__main__":
    main()
