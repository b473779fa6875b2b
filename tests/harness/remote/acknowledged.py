#!/usr/bin/python3
"""Write documents with majority acknowledgement at a constant rate, then look for each of them. Needs pymongo.

usage: acknowledged.py RATE [--series] < connection string on the first line; ends with its standard input

Prints "writing" once the first one is acknowledged, and at the end JSON: acknowledged (count), lost (numbers that were
acknowledged and are not there), failed (count, and the first few as `failures`: not acknowledged, also after the
driver's own second attempt), gap_s (longest time between two acknowledgements, in seconds), began (by the monotonic
clock). With --series also each acknowledgement: seconds after the beginning, and after the write was due.
"""

from __future__ import annotations

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

    connect: makes a client, which reads the CAs that it trusts once; returns the collection.
    """

    def __init__(self, connect: Callable[[], Any], rate: float) -> None:
        self.connect, self.collection, self.rate = connect, connect(), rate
        self.start = time.monotonic()
        self.lock = threading.Lock()
        self.next = 0
        self.ended = False
        self.acknowledged: list[tuple[float, int]] = []
        self.failures: list[str] = []

    def work(self) -> None:
        while True:
            with self.lock:
                if self.ended:
                    return
                number, self.next = self.next, self.next + 1
            time.sleep(max(0.0, self.due(number) - time.monotonic()))
            try:
                self.collection.insert_one({"_id": number})
            except PyMongoError as error:
                with self.lock:
                    self.failures.append(f"{time.monotonic() - self.start:.2f} s: {type(error).__name__}")
                    # As what is started again once the database's CA was replaced.
                    if "certificate verify failed" in str(error):
                        self.collection = self.connect()
                continue
            with self.lock:
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
        sys.stdin.read()
        self.ended = True
        for worker in workers:
            worker.join()
        times = sorted(at for at, _ in self.acknowledged)
        self.collection = self.connect()
        there = {document["_id"] for document in self.collection.find({}, {"_id": 1})}
        result = {
            "began": round(self.start, 3),
            "acknowledged": len(times),
            "lost": sorted(number for _, number in self.acknowledged if number not in there),
            "failed": len(self.failures),
            "failures": self.failures[:10],
            "gap_s": round(max((b - a for a, b in itertools.pairwise(times)), default=0.0), 2),
        }
        if series:
            acknowledged = sorted(self.acknowledged)
            result["series"] = [(round(at - self.start, 3), round(at - self.due(n), 3)) for at, n in acknowledged]
        return result


def main() -> None:
    uri = sys.stdin.readline().strip()

    def connect() -> Any:
        client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(
            uri,
            w="majority",
            wtimeoutms=LIMIT_MS,
            serverSelectionTimeoutMS=LIMIT_MS,
            socketTimeoutMS=SILENT_MS,
            readConcernLevel="majority",
        )
        return client.get_default_database()[NAME]

    connect().drop()
    writer = Writer(connect, float(sys.argv[1]))
    result = writer.run("--series" in sys.argv)
    writer.collection.drop()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
