"""How fast the fleet is itself again: a killed instance, a hung one, a lost primary."""

from __future__ import annotations

import time

from bench.fleet import Fleet, Row
from tests.e2e.support import (
    KILL_AND_ASK,
    RATE,
    Hosts,
    load,
    lose_primary,
    past_start,
    pid_of,
    replica_set_settings,
    wait_for,
)

KILLS = 15


def measure(fleet: Fleet) -> list[Row]:
    client = fleet.client()
    serving = {name: host for name, host in fleet.hosts("app").items() if host.service("phoenix@3000").is_running}
    rows = killed(fleet, client, serving) + hung(fleet, client, serving)
    ours = lose_primary(fleet.inventory)
    with replica_set_settings(fleet.inventory, electionTimeoutMillis=10000, heartbeatTimeoutSecs=10):
        default = lose_primary(fleet.inventory)
    rows.append(Row("primary killed to first majority write", ours, "s", default, "reference: MongoDB's defaults"))
    return rows


def killed(fleet: Fleet, client: object, serving: Hosts) -> list[Row]:
    took = []
    with load(client, fleet.url, KILLS * 2 + 6) as result:
        for number in range(KILLS):
            began = time.monotonic()
            took.append(int(list(serving.values())[number % len(serving)].check_output(KILL_AND_ASK)))
            time.sleep(max(0.0, 2 - (time.monotonic() - began)))
    return [
        Row("instance killed to answering", sorted(took)[KILLS // 2] / 1000, "s", 1, "reference: the design's"),
        Row(f"failed at {RATE}/s, an instance killed every 2 s", float(result["failed"]), "requests"),
    ]


def hung(fleet: Fleet, client: object, serving: Hosts) -> list[Row]:
    host = next(iter(serving.values()))
    past_start(host)
    with load(client, fleet.url, 25) as result:
        frozen = pid_of(host, "phoenix@3000")
        host.check_output(f"kill -STOP {frozen}")
        took = wait_for(lambda: pid_of(host, "phoenix@3000") not in (0, frozen), 20, "a hung instance is replaced")
    return [
        Row("instance hung to replaced", round(took, 2), "s", 10, "reference: the design's"),
        Row("slowest request meanwhile", float(result["max_s"]), "s", 30, "reference: the proxy's time-out"),
        Row(f"failed at {RATE}/s meanwhile", float(result["failed"]), "requests"),
    ]
