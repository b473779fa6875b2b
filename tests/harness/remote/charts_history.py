#!/usr/bin/python3
"""Print what Netdata's parent has kept of some charts of every host, as CSV. Stdlib only.

usage: charts_history.py SECONDS INTERVAL CONTEXT ...
A line each: host, chart, context, dimension, and its average of each interval, the oldest first. Until the next value a
dimension has the one before, as alarms see it; it is nan where there is none at all.
"""

from __future__ import annotations

import csv
import json
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from typing import Any

NETDATA = "http://127.0.0.1:19999"


def ask(path: str) -> Any:
    with urllib.request.urlopen(NETDATA + path, timeout=30) as answer:
        return json.load(answer)


def held(values: Iterable[tuple[int, float | None]], times: Iterable[int]) -> list[float]:
    """The value at each of the times; values: with their times, in any order."""
    known = sorted((at, value) for at, value in values if value is not None)
    last = known[0][1] if known else float("nan")
    found = []
    for at in times:
        while known and known[0][0] <= at:
            last = known.pop(0)[1]
        found.append(last)
    return found


def rows(seconds: int, interval: int, contexts: set[str], now: float) -> Iterator[list[Any]]:
    before = int(now) // interval * interval - interval
    times = range(before - seconds + interval, before + 1, interval)
    for agent in ask("/api/v1/info")["mirrored_hosts_status"]:
        top = f"/host/{agent['guid']}/api/v1"
        for chart in ask(f"{top}/charts")["charts"].values():
            if chart["context"] not in contexts:
                continue
            query = {"chart": chart["id"], "after": before - seconds, "before": before, "points": len(times)}
            answer = ask(f"{top}/data?{urllib.parse.urlencode({**query, 'group': 'average', 'format': 'json'})}")
            for column, dimension in enumerate(answer["labels"][1:], 1):
                values = held(((int(row[0]), row[column]) for row in answer["data"]), times)
                shown = [f"{value:.6g}" for value in values]
                yield [agent["hostname"], chart["id"], chart["context"], dimension, *shown]


if __name__ == "__main__":
    csv.writer(sys.stdout).writerows(rows(int(sys.argv[1]), int(sys.argv[2]), set(sys.argv[3:]), time.time()))
