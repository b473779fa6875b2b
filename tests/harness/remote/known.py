#!/usr/bin/python3
"""Write numbered documents one after another, and know when each was written. Runs on a database host; needs pymongo.

usage: known.py write COLLECTION RATE < connection string on the first line; ends with its standard input
       known.py read|drop COLLECTION < connection string

write prints "writing" once the first one is acknowledged, and at the end JSON: of each number, in order, when it was
sent, and when it was acknowledged by a majority, or null; both by time.time(). read prints the numbers that are there,
and drop removes the collection.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

LIMIT_MS = 10000


def write(collection: Any, rate: float) -> list[tuple[float, float | None]]:
    collection.drop()
    known: list[tuple[float, float | None]] = []
    ended = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    written = 0
    while not ended.wait(1 / rate):
        sent = time.time()
        try:
            collection.insert_one({"_id": len(known)})
        except PyMongoError:
            known.append((sent, None))
            continue
        known.append((sent, time.time()))
        written += 1
        if written == 1:
            print("writing", flush=True)
    return known


def main() -> None:
    mode, name = sys.argv[1:3]
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(
        sys.stdin.readline().strip(),
        w="majority",
        wtimeoutms=LIMIT_MS,
        serverSelectionTimeoutMS=LIMIT_MS,
        socketTimeoutMS=LIMIT_MS,
        readConcernLevel="majority",
    )
    collection = client.get_default_database()[name]
    if mode == "write":
        print(json.dumps(write(collection, float(sys.argv[3]))))
    elif mode == "drop":
        collection.drop()
    else:
        print(json.dumps(sorted(document["_id"] for document in collection.find({}, {"_id": 1}))))


if __name__ == "__main__":
    main()
