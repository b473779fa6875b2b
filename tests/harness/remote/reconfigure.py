#!/usr/bin/python3
"""Change settings of the replica set, on its primary, and print their former values as JSON. Needs pymongo.

usage: reconfigure.py < {"password": the admin's, "settings": {name: value}} as JSON
"""

from __future__ import annotations

import json
import sys
from typing import Any

import pymongo

from tests.harness.remote import by_tls


def main() -> None:
    order = json.load(sys.stdin)
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(
        "127.0.0.1", username="admin", password=order["password"], directConnection=True, **by_tls.options()
    )
    config = client.admin.command("replSetGetConfig")["config"]
    print(json.dumps({name: config["settings"][name] for name in order["settings"]}))
    config["settings"].update(order["settings"])
    config["version"] += 1
    client.admin.command("replSetReconfig", config)


if __name__ == "__main__":
    main()
