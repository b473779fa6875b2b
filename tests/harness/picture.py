"""An invented fleet for the status page, as Netdata and the records would show it, with all that the page can show.

Its texts try to break out of their place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from phoenix.drills.record import Entry
from phoenix.page.collect import DAY, POINTS, Host, Picture
from phoenix.page.plot import Line, Points
from phoenix.state.deploys import Deploy

NOW = 1795636800.0
HOSTILE = "<script>document.title='broken'</script><img src=http://192.0.2.1/x>"


def wave(low: float, high: float, gap: bool = False) -> Points:
    """A day with a quiet night; gap: an hour without values."""
    times = [NOW - DAY + index * DAY / POINTS for index in range(POINTS + 1)]
    share = [0.5 - 0.5 * math.cos(2 * math.pi * index / POINTS) for index in range(POINTS + 1)]
    return [
        (at, None if gap and 150 < index < 163 else low + (high - low) * part)
        for index, (at, part) in enumerate(zip(times, share, strict=True))
    ]


def host(name: str, silent: float = 2.0, **charts: Mapping[str, float]) -> Host:
    """charts: by name, with __ for the dot."""
    disk: dict[str, Mapping[str, float]] = {"phoenix_disk.root": {"used": 8.0, "available": 12.0}}
    return Host(name, silent, {**disk, **{chart.replace("__", "."): values for chart, values in charts.items()}})


def picture(said: str = HOSTILE, **own: Any) -> Picture:
    """said: a text from outside, in an alarm and in a deploy; own: other fields of the picture."""
    member = {"up": 1.0, "sees_primary": 1.0}
    gauges = {
        "good_dumps": 7.0, "oldest_good_age_seconds": 6.4 * DAY, "newest_good_age_seconds": 9.2 * 3600,
        "newest_good_bytes": 5.2e9,
        "last_result": 0.0, "newest_good_documents": 18_400_000.0, "offsite_newest_age_seconds": 33e3,
        "logs_oldest_age_seconds": 7.9 * 3600, "oplog_age_seconds": 4.0, "oplog_gap_result": 0.0,
    }  # fmt: skip
    control = {f"phoenix_metrics__backup_{name}": {"value": value} for name, value in gauges.items()}
    instances = {"phoenix_fleet__instances": {"running": 3.0}}
    values: dict[str, Any] = {
        "now": NOW,
        "hosts": [
            host("app1", 2.0, **instances),
            host("app2", 2.0, **instances),
            host("app3", silent=340.0),
            host("control1", 2.0, **control),
            host("db1", phoenix_mongodb__member=member, phoenix_mongodb__lag={"lag": 0.0}),
            host("db2", phoenix_mongodb__member=member, phoenix_mongodb__lag={"lag": 2.0}),
            host("db3", phoenix_mongodb__member={"up": 0.0, "sees_primary": 0.0}),
            host("extra-1", 1.0, phoenix_fleet__instances={"running": 2.0}),
            host("lb1"),
            host("lb2"),
        ],
        "alarms": [
            {"status": "CRITICAL", "host": "control1", "info": "A host is silent | nothing heard for 30 s",
             "value": "340 seconds", "chart": "phoenix_silent.app3", "alarm": "phoenix_host_silent",
             "when": str(NOW - 310)},
            {"status": "WARNING", "host": "app1", "info": f"CPU of a service{said} | above 80 %",
             "value": "91 %", "chart": "phoenix_cpu.phoenix@3000", "alarm": "phoenix_service_cpu",
             "when": str(NOW - 4000)},
        ],
        "rate": [Line("requests per second", wave(12, 240, gap=True))],
        "capacity": [
            Line("wanted", [(at, float(round(value or 0))) for at, value in wave(2, 9)]),
            Line("running", [(at, float(round((value or 0) - 0.4))) for at, value in wave(2, 9)]),
            Line("required by the load", wave(1.2, 8.4)),
        ],
        "release": "1.4.2-0f3c9a1b",
        "drained": {"192.0.2.23:3000": "app3 was away during a deploy"},
        "demand": {
            "wanted": 2, "limit": 3, "created": 2, "creations_per_hour": 10, "away_seconds": 0.0,
            "hosts": [
                {"name": "extra-1", "state": "serving", "since": NOW - 5400, "address": "192.0.2.101", "reason": ""},
                {"name": "extra-2", "state": "booting", "since": NOW - 70, "address": "192.0.2.102",
                 "reason": said},
            ],
            "notes": [],
        },
        "drills": {
            name: Entry(NOW - 60 * DAY, NOW - days * DAY, result, text, seconds, NOW - success * DAY)
            for name, days, result, text, seconds, success in (
                ("alarm", 5, "good", "mail: accepted; webhook: accepted", 41.0, 5),
                ("balancer", 9, "failed", f"of 604 requests 2 failed: HTTP 502{said}", 63.0, 16),
                ("restore", 2, "good", "nightly-2 was restored, and equals what it was taken from", 1460.0, 2),
            )
        },
        "history": [
            Deploy(3, "deploy", "ci", "1.4.2-0f3c9a1b", "1.4.1-aa10c2d3", NOW - 7200, "good", 184.0),
            Deploy(2, "deploy", f"ci{said}", "1.4.2-rc", "1.4.1-aa10c2d3", NOW - 90000, "rolled back", 96.0,
                   "the canary answered 5xx"),
            Deploy(1, "rollback", "operator", "1.4.1-aa10c2d3", "1.4.0", NOW - 200000),
        ],
    }  # fmt: skip
    return Picture(**{**values, **own})
