#!/usr/bin/python3
"""Fill, change and count the database `backup_trial`, for the tests of the backup. Runs on a database host.

usage: documents.py MEMBERS fill NUMBER | write SECONDS | stop | count | before TIME | drop [COLLECTION], with the
admin password on standard input. before: count only the marks of before a time, in seconds since 1970.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pymongo
from pymongo.errors import PyMongoError

from tests.harness.remote import by_tls

# Made by the verb `stop`, which ends `write` on the same host.
STOPPED = Path("/tmp/phoenix-documents-stopped")


def main() -> None:
    members, verb, password = sys.argv[1], sys.argv[2], sys.stdin.read().strip()
    client = pymongo.MongoClient(
        f"mongodb://{members}/?replicaSet=phoenix", username="admin", password=password, **by_tls.options()
    )
    database = client.backup_trial
    if verb == "fill":
        database.items.create_index("number")
        for start in range(0, int(sys.argv[3]), 1000):
            database.items.insert_many(
                [
                    {"number": start + n, "text": f"{(start + n) * 7919:x}" * 10, "tags": ["a", n % 7]}
                    for n in range(1000)
                ]
            )
    elif verb == "write":
        # Inserts, changes and deletes, each stamped with its number; a lost primary is waited for.
        number, end = 0, time.monotonic() + float(sys.argv[3])
        STOPPED.unlink(missing_ok=True)
        while time.monotonic() < end and not STOPPED.exists():
            try:
                database.marks.insert_one({"_id": number, "at": time.time()})
                database.items.update_one({"number": number * 37 % 200000}, {"$set": {"changed": number}})
                database.items.delete_one({"number": number * 41 % 200000})
            except PyMongoError:
                time.sleep(0.2)
            number += 1
            time.sleep(0.003)
    elif verb == "stop":
        STOPPED.touch()
    elif verb == "drop" and len(sys.argv) > 3:
        database.drop_collection(sys.argv[3])
    elif verb == "drop":
        client.drop_database("backup_trial")
    earlier = {"at": {"$lt": float(sys.argv[3])}} if verb == "before" else {}
    last = database.marks.find_one(sort=[("_id", -1)]) or {}
    print(
        json.dumps(
            {
                "items": database.items.count_documents({}),
                "marks": database.marks.count_documents(earlier),
                "last": last.get("_id"),
                "last_at": last.get("at"),
            }
        )
    )


if __name__ == "__main__":
    main()
