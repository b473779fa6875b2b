"""This host's member of the replica set."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from phoenix.database import tls
from phoenix.monitoring.charts import TIMEOUT_S, Chart, Collector


def member_values(status: Mapping[str, Any]) -> tuple[bool, float]:
    """Of a reply to replSetGetStatus: whether this member sees a primary, and the seconds that it is behind it."""
    members = status.get("members", [])
    primary = next((m for m in members if m.get("stateStr") == "PRIMARY"), None)
    me = next((m for m in members if m.get("self")), None)
    if primary is None or me is None:
        return False, 0.0
    if "optimeDate" not in primary or "optimeDate" not in me:
        return True, 0.0
    return True, max(0.0, (primary["optimeDate"] - me["optimeDate"]).total_seconds())


def oplog_hours(seconds: float, used: float, limit: float) -> float:
    """Hours that the oplog will hold once it is full, at the pace of what it holds now: young is not short."""
    return seconds * max(1.0, limit / max(used, 1.0)) / 3600


class MongoDb(Collector):
    """This host's member of the replica set, as the monitoring user sees it."""

    operations = ("insert", "query", "update", "delete", "getmore", "command")

    def __init__(self, port: int, user: str, password: str, library: str, ca: str = "") -> None:
        sys.path.insert(0, library)
        import pymongo  # noqa: PLC0415 - only where there is a database, from the folder named

        self.port, self.login, self.ca = port, {"username": user, "password": password}, ca
        self.client: Any = None
        self.failure: type[Exception] = pymongo.errors.PyMongoError
        self.last: tuple[float, dict[str, int]] | None = None

    def connect(self) -> Any:
        """A client, which reads the CAs that it trusts once: after a failure there may be others."""
        import pymongo  # noqa: PLC0415

        return pymongo.MongoClient(
            "127.0.0.1",
            self.port,
            **self.login,
            **tls.options(self.ca),
            directConnection=True,
            maxPoolSize=1,
            serverSelectionTimeoutMS=TIMEOUT_S * 1000,
            connectTimeoutMS=TIMEOUT_S * 1000,
            socketTimeoutMS=TIMEOUT_S * 1000,
            # The driver's own heartbeat may be rare: each collection queries the server.
            heartbeatFrequencyMS=60000,
        )

    def collect(self, now: float) -> Iterator[Chart]:
        up = primary = False
        lag = 0.0
        try:
            self.client = self.client or self.connect()
            status = self.client.admin.command("replSetGetStatus")
            server = self.client.admin.command("serverStatus", oplog=1, metrics=0, wiredTiger=0, tcmalloc=0)
            oplog = self.client.local.command("collStats", "oplog.rs")
        except (self.failure, OSError) as error:
            print(f"mongodb: {error}"[:300], file=sys.stderr)
            self.last = None
            if self.ca and self.client:
                self.client.close()
                self.client = None
        else:
            up = True
            primary, lag = member_values(status)
            yield from self.details(now, server, oplog)
        yield Chart(
            "phoenix_mongodb.member",
            "Member of the replica set",
            "yes (1) or no (0)",
            "phoenix.mongodb_member",
            {"up": up, "sees_primary": primary},
        )
        if up and primary:
            yield Chart("phoenix_mongodb.lag", "Behind the primary", "seconds", "phoenix.mongodb_lag", {"lag": lag})

    def details(self, now: float, server: Mapping[str, Any], oplog: Mapping[str, Any]) -> Iterator[Chart]:
        ends = server.get("oplog", {})
        if "earliestOptime" in ends and oplog.get("maxSize"):
            seconds = ends["latestOptime"].time - ends["earliestOptime"].time
            yield Chart(
                "phoenix_mongodb.oplog",
                "Window of a full oplog",
                "hours",
                "phoenix.mongodb_oplog",
                {"window": oplog_hours(seconds, oplog["size"], oplog["maxSize"])},
            )
        connections = {"current": server["connections"]["current"]}
        context = "phoenix.mongodb_connections"
        yield Chart("phoenix_mongodb.connections", "Connections", "connections", context, connections)
        counters = {name: int(server["opcounters"][name]) for name in self.operations}
        if self.last:
            seconds = now - self.last[0]
            rates = {name: max(0, counters[name] - self.last[1][name]) / seconds for name in self.operations}
            yield Chart("phoenix_mongodb.operations", "Operations", "operations/s", "phoenix.mongodb_operations", rates)
        self.last = (now, counters)
