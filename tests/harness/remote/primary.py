#!/usr/bin/python3
"""Print whether the member on this host is primary: True or False. Needs pymongo."""

from __future__ import annotations

import pymongo


def main() -> None:
    client: pymongo.MongoClient[dict[str, object]] = pymongo.MongoClient(
        "127.0.0.1", 27017, directConnection=True, serverSelectionTimeoutMS=1000
    )
    print(client.admin.command("hello")["isWritablePrimary"])


if __name__ == "__main__":
    main()
