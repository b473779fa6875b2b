#!/usr/bin/python3
"""Write documents with majority acknowledgement one after another and print the longest gap. Runs on a database host.

usage: writes.py SECONDS < connection string

The string comes on standard input because it holds a password. Prints JSON: written (count), gap_s (longest time
between two acknowledged writes, in seconds).
"""

from __future__ import annotations

import json
import sys
import time

import pymongo
from pymongo.errors import PyMongoError


def main() -> None:
    seconds = float(sys.argv[1])
    client: pymongo.MongoClient[dict[str, int]] = pymongo.MongoClient(
        sys.stdin.read().strip(), w="majority", wtimeoutms=1000, serverSelectionTimeoutMS=500, socketTimeoutMS=1500
    )
    collection = client.get_default_database()["gap_probe"]
    start = last = time.monotonic()
    written, gap = 0, 0.0
    while time.monotonic() - start < seconds:
        try:
            collection.insert_one({"n": written})
        except PyMongoError:
            continue
        now = time.monotonic()
        written, gap, last = written + 1, max(gap, now - last), now
        time.sleep(0.02)
    gap = max(gap, time.monotonic() - last)
    collection.drop()
    print(json.dumps({"written": written, "gap_s": round(gap, 2)}))


if __name__ == "__main__":
    main()
