"""Recovery times: a killed instance, a hung one, a lost primary."""

from __future__ import annotations

import time

from bench.fleet import Fleet, Row
from tests.harness import instances
from tests.harness.database import lose_primary, replica_set_settings
from tests.harness.hosts import Hosts
from tests.harness.instances import freeze_and_wait, kill_and_ask, past_start, start_and_ask
from tests.harness.load import RATE, load
from tests.harness.waiting import median

KILLS = 15


def measure(fleet: Fleet) -> list[Row]:
    client = fleet.client()
    serving = instances.serving(fleet.inventory)
    rows = killed(fleet, client, serving) + hung(fleet, client, serving)
    ours = lose_primary(fleet.inventory)
    with replica_set_settings(fleet.inventory, electionTimeoutMillis=10000, heartbeatTimeoutSecs=10):
        default = lose_primary(fleet.inventory)
    rows.append(Row("primary killed to first majority write", ours, "s", default, "reference: MongoDB's defaults"))
    return rows


def killed(fleet: Fleet, client: object, serving: Hosts) -> list[Row]:
    took, by_hand = [], []
    hosts = list(serving.values())
    with load(client, fleet.url) as result:
        for number in range(KILLS):
            began = time.monotonic()
            took.append(kill_and_ask(hosts[number % len(hosts)]))
            time.sleep(max(0.0, 2 - (time.monotonic() - began)))
        for number in range(KILLS):
            by_hand.append(start_and_ask(hosts[number % len(hosts)]))
    return [
        Row(
            "instance killed to answering",
            median(took) / 1000,
            "s",
            median(by_hand) / 1000,
            "reference: started by hand; the design: 1 s",
        ),
        Row(f"failed at {RATE}/s, an instance killed every 2 s", float(result["failed"]), "requests"),
    ]


def hung(fleet: Fleet, client: object, serving: Hosts) -> list[Row]:
    host = next(iter(serving.values()))
    past_start(host)
    with load(client, fleet.url) as result:
        took = freeze_and_wait(host)
    return [
        Row("instance hung to replaced", round(took, 2), "s", 10, "reference: the design's"),
        Row("slowest request meanwhile", float(result["max_s"]), "s", 30, "reference: the proxy's time-out"),
        Row(f"failed at {RATE}/s meanwhile", float(result["failed"]), "requests"),
    ]
