#!/usr/bin/python3
"""Write numbered documents with majority acknowledgement at a constant rate, then look for each. Needs pymongo.

usage: acknowledged.py RATE [--series] [--known] [--collection NAME]  ends with its standard input
       acknowledged.py read|drop [--collection NAME]
The connection string is the first line of the standard input, as it holds a password. A line before its end is the
one by which the documents are looked for, where the password was replaced meanwhile.

Prints "writing" once the first one is acknowledged, and at the end JSON: acknowledged (count), lost (numbers that were
acknowledged and are not there), failed (count, and the first few as `failures`: not acknowledged, also after the
driver's own second attempt), gap_s (longest time between two acknowledgements, in seconds), began (by the monotonic
clock). With --series also each acknowledgement: seconds after the beginning, and after the write was due.

With --known the collection stays, and in place of lost stands `known`: of each number, in order, when it was sent, and
when it was acknowledged, or null; both by time.time(). read prints the numbers that are there, drop removes them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

WORKERS = 8
LIMIT_MS = 10000
# A host that is lost sends nothing more, not even an end of its connections: the driver then tries once more.
SILENT_MS = 5000
NAME = "drill_probe"


class Writer:
    """The next document is due at `start + number / rate`, whatever became of those before it.

    connect: makes a client, which reads the CAs that it trusts once; returns the collection. Takes a connection string,
    or "" for the first one.
    """

    def __init__(self, connect: Callable[[str], Any], rate: float) -> None:
        self.connect, self.collection, self.rate = connect, connect(""), rate
        self.latest = ""
        self.start = time.monotonic()
        self.lock = threading.Lock()
        self.next = 0
        self.ended = False
        self.acknowledged: list[tuple[float, int]] = []
        self.known: dict[int, tuple[float, float | None]] = {}
        self.failures: list[str] = []

    def work(self) -> None:
        while True:
            with self.lock:
                if self.ended:
                    return
                number, self.next = self.next, self.next + 1
            time.sleep(max(0.0, self.due(number) - time.monotonic()))
            sent = time.time()
            try:
                self.collection.insert_one({"_id": number})
            except PyMongoError as error:
                with self.lock:
                    self.known[number] = (sent, None)
                    self.failures.append(f"{time.monotonic() - self.start:.2f} s: {type(error).__name__}")
                    # As what is started again once the database's CA was replaced.
                    if "certificate verify failed" in str(error):
                        self.collection = self.connect("")
                continue
            with self.lock:
                self.known[number] = (sent, time.time())
                self.acknowledged.append((time.monotonic(), number))

    def due(self, number: int) -> float:
        return self.start + number / self.rate

    def run(self, series: bool) -> dict[str, Any]:
        workers = [threading.Thread(target=self.work) for _ in range(WORKERS)]
        for worker in workers:
            worker.start()
        while not self.acknowledged:
            time.sleep(0.05)
        print("writing", flush=True)
        self.latest = sys.stdin.read().strip()
        self.ended = True
        for worker in workers:
            worker.join()
        times = sorted(at for at, _ in self.acknowledged)
        result = {
            "began": round(self.start, 3),
            "acknowledged": len(times),
            "failed": len(self.failures),
            "failures": self.failures[:10],
            "gap_s": round(max((b - a for a, b in itertools.pairwise(times)), default=0.0), 2),
        }
        if series:
            acknowledged = sorted(self.acknowledged)
            result["series"] = [(round(at - self.start, 3), round(at - self.due(n), 3)) for at, n in acknowledged]
        return result

    def lost(self) -> list[int]:
        self.collection = self.connect(self.latest)
        there = set(numbers(self.collection))
        return sorted(number for _, number in self.acknowledged if number not in there)


def numbers(collection: Any) -> list[int]:
    return sorted(document["_id"] for document in collection.find({}, {"_id": 1}))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", metavar="RATE|read|drop")
    parser.add_argument("--series", action="store_true")
    parser.add_argument("--known", action="store_true")
    parser.add_argument("--collection", default=NAME)
    options = parser.parse_args()
    first = sys.stdin.readline().strip()

    def connect(latest: str = "") -> Any:
        client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(
            latest or first,
            w="majority",
            wtimeoutms=LIMIT_MS,
            serverSelectionTimeoutMS=LIMIT_MS,
            socketTimeoutMS=SILENT_MS,
            readConcernLevel="majority",
        )
        return client.get_default_database()[options.collection]

    if options.what == "read":
        print(json.dumps(numbers(connect())))
        return
    connect().drop()
    if options.what == "drop":
        return
    writer = Writer(connect, float(options.what))
    result = writer.run(options.series)
    if options.known:
        result["known"] = [writer.known[number] for number in sorted(writer.known)]
    else:
        result["lost"] = writer.lost()
        writer.collection.drop()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
