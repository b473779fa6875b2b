#!/usr/bin/python3
"""Netdata plugin that charts what Phoenix's alarms read: services, nginx, MongoDB, certificates, own metrics.

Netdata runs it as its user and reads charts from its standard output
(https://learn.netdata.cloud/docs/developer-and-contributor-corner/external-plugins). Which collectors run is decided by
the sections that the configuration, a JSON file, holds. Each collector has a thread and a pace of its own, so that a
database that does not answer delays no other chart. Only Debian's Python and its standard library, and for MongoDB the
driver in the folder that the configuration names.

usage: phoenix.plugin [INTERVAL]    Netdata's own interval, which is not used
"""

from __future__ import annotations

import fnmatch
import http.client
import json
import math
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CONFIGURATION = Path("/etc/netdata/phoenix.json")
# Netdata keeps whole numbers; three decimals are enough for everything here.
SCALE = 1000
TIMEOUT_S = 2.0
# A chart that was not seen for this long is taken down: its service or metric is gone for good.
FORGET_S = 60.0

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Chart:
    """What one collection says about one chart; `values` maps dimension to value."""

    id: str
    title: str
    units: str
    context: str
    values: Mapping[str, float]


# --- pure parts -------------------------------------------------------------------------------------------------------
def parse_metrics(text: str) -> dict[str, float]:
    """Gauges of a text in Prometheus' format, by name and labels; lines that are none are left out."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        match = re.fullmatch(r"([a-zA-Z_:][\w:]*)(\{[^}]*\})?\s+(\S+)(\s+\d+)?", line.strip())
        if match is None or line.startswith("#"):
            continue
        try:
            found[match[1] + (match[2] or "")] = float(match[3])
        except ValueError:
            continue
    return {name: value for name, value in found.items() if math.isfinite(value)}


def metric_chart(name: str, value: float, written: float, now: float) -> Chart:
    """One gauge as a chart. Times and ages become ages as of now: what nobody renews grows older by itself.

    `written` is the time at which its file was, `now` the present; both in seconds since 1970.
    """
    plain = name.partition("{")[0]
    if plain.endswith("_timestamp_seconds"):
        plain, value, units = plain.replace("_timestamp_seconds", "_age_seconds"), max(0.0, now - value), "seconds"
    elif plain.endswith("_age_seconds"):
        value, units = value + max(0.0, now - written), "seconds"
    else:
        units = plain.rpartition("_")[2]
    labels = re.sub(r"\W+", "_", name.partition("{")[2]).strip("_")
    short = plain.removeprefix("phoenix_")
    chart_id = f"phoenix_metrics.{short}" + (f"_{labels}" if labels else "")
    return Chart(chart_id, short.replace("_", " "), units, f"phoenix.{short}", {"value": value})


def count_statuses(lines: bytes) -> dict[str, int]:
    """Answers of nginx's JSON access log by class of status."""
    counts = dict.fromkeys(("1xx", "2xx", "3xx", "4xx", "5xx"), 0)
    for digit in re.findall(rb'"status":([1-5])\d\d,', lines):
        counts[f"{digit.decode()}xx"] += 1
    return counts


def error_share(window: Iterable[Mapping[str, int]], minimum: int) -> float:
    """Percentage of answers 5xx in the window; 0 below `minimum` answers, where one failure would be a catastrophe."""
    total = errors = 0
    for counts in window:
        total += sum(counts.values())
        errors += counts["5xx"]
    return 100.0 * errors / total if total >= max(1, minimum) else 0.0


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


def unit_states(shown: str) -> dict[str, tuple[str, int]]:
    """Of `systemctl show -p Id,LoadState,ActiveState,NRestarts`: unit -> (state, restarts)."""
    states = {}
    # A unit that is named and not installed has no state either.
    for block in shown.strip().split("\n\n"):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if values.get("LoadState") == "loaded":
            states[values["Id"]] = (values.get("ActiveState", ""), int(values.get("NRestarts") or 0))
    return states


# --- output -----------------------------------------------------------------------------------------------------------
@dataclass
class Output:
    """Writes charts in Netdata's protocol; collectors share it."""

    write: Callable[[str], object]
    lock: threading.Lock = field(default_factory=threading.Lock)
    defined: dict[str, tuple[tuple[str, ...], float]] = field(default_factory=dict)

    def emit(self, chart: Chart, interval: int, now: float) -> None:
        with self.lock:
            dimensions = tuple(chart.values)
            if self.defined.get(chart.id, ((), 0.0))[0] != dimensions:
                self.write(self.definition(chart, interval))
            self.defined[chart.id] = (dimensions, now)
            values = "".join(f"SET {name} = {round(value * SCALE)}\n" for name, value in chart.values.items())
            self.write(f"BEGIN {chart.id}\n{values}END\n")

    def forget(self, chart: Chart, interval: int) -> None:
        """Take a chart down that is not filled any more, and with it its alarms."""
        with self.lock:
            if self.defined.pop(chart.id, None):
                self.write(self.definition(chart, interval, "obsolete"))

    @staticmethod
    def definition(chart: Chart, interval: int, options: str = "") -> str:
        family = chart.id.partition(".")[2]
        head = f"CHART {chart.id} '' '{chart.title}' '{chart.units}' '{family}' '{chart.context}' line 90000 {interval}"
        dimensions = "".join(f"DIMENSION {name} '' absolute 1 {SCALE}\n" for name in chart.values)
        return f"{head} '{options}' phoenix\n{dimensions}"


# --- collectors -------------------------------------------------------------------------------------------------------
class Collector:
    """Collects some charts every `interval` seconds."""

    interval = 5

    def collect(self, now: float) -> Iterator[Chart]:
        """Charts as of `now`, in seconds of the monotonic clock."""
        raise NotImplementedError


class Beat(Collector):
    """Says that this host's agent and this plugin are alive; the parent looks for it."""

    def collect(self, now: float) -> Iterator[Chart]:
        yield Chart("phoenix_agent.beat", "Agent alive", "beats", "phoenix.beat", {"alive": 1})


class ServiceCpu(Collector):
    """CPU of services, in percent of one core, however many the host has: a single-threaded process ends at 100.

    The kernel counts it for each control group of the unified hierarchy, also where no controller is enabled.
    """

    interval = 2
    rescan_s = 10.0

    def __init__(self, patterns: list[str]) -> None:
        self.patterns = patterns
        unified = Path("/sys/fs/cgroup/unified")
        self.root = (unified if unified.is_dir() else Path("/sys/fs/cgroup")) / "system.slice"
        self.scanned = float("-inf")
        self.files: dict[str, Path] = {}
        self.last: dict[str, tuple[float, int]] = {}

    def scan(self) -> dict[str, Path]:
        found = {}
        for folder in (self.root, *(entry for entry in self.root.iterdir() if entry.name.endswith(".slice"))):
            for entry in os.scandir(folder):
                if entry.name.endswith(".service") and any(fnmatch.fnmatch(entry.name, p) for p in self.patterns):
                    found[entry.name] = Path(entry.path, "cpu.stat")
        return found

    def collect(self, now: float) -> Iterator[Chart]:
        if now - self.scanned >= self.rescan_s:
            self.files, self.scanned = self.scan(), now
        for unit, file in list(self.files.items()):
            try:
                used = int(file.read_text(encoding="ascii").split(None, 2)[1])
            except FileNotFoundError:
                # Ended, or just being restarted: looked for again at the next collection.
                del self.files[unit]
                self.scanned = float("-inf")
                continue
            at = time.monotonic()
            then, before = self.last.get(unit, (at, used))
            self.last[unit] = (at, used)
            if at > then:
                # A restarted unit counts from zero again.
                share = (used - before if used >= before else used) / (at - then) / 1e4
                yield Chart(
                    f"phoenix_cpu.{unit.removesuffix('.service')}",
                    f"CPU of {unit}",
                    "% of one core",
                    "phoenix.service_cpu",
                    {"cpu": share},
                )


class ServiceRestarts(Collector):
    """Restarts of services by systemd in the last five minutes, and how many ordinary instances run."""

    interval = 10
    window_s = 300.0

    def __init__(self, patterns: list[str], ordinary: list[str]) -> None:
        self.patterns, self.ordinary = patterns, ordinary
        self.last: dict[str, int] = {}
        self.seen: dict[str, deque[tuple[float, int]]] = {}

    def collect(self, now: float) -> Iterator[Chart]:
        command = ["systemctl", "show", "--property=Id,LoadState,ActiveState,NRestarts", "--", *self.patterns]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=8, check=True).stdout
        states = unit_states(shown)
        for unit, (_, restarts) in states.items():
            # A start by hand or by a roll-out begins the count anew, and is no crash.
            new = max(0, restarts - self.last.get(unit, restarts))
            self.last[unit] = restarts
            recent = self.seen.setdefault(unit, deque())
            recent.append((now, new))
            while recent and recent[0][0] < now - self.window_s:
                recent.popleft()
            yield Chart(
                f"phoenix_restarts.{unit.removesuffix('.service')}",
                f"Restarts of {unit} in five minutes",
                "restarts",
                "phoenix.service_restarts",
                {"restarts": sum(count for _, count in recent)},
            )
        if self.ordinary:
            running = sum(states.get(unit, ("", 0))[0] == "active" for unit in self.ordinary)
            yield Chart(
                "phoenix_fleet.instances",
                "Ordinary instances that run here",
                "instances",
                "phoenix.instances",
                {"running": running},
            )


class Disks(Collector):
    """Space of each file system, once: the mounts of Netdata's own sandbox show the same one again and again."""

    interval = 10
    skipped = ("/dev", "/proc", "/run", "/sys")

    def mounts(self) -> dict[str, str]:
        """Device -> its shortest mount point."""
        found: dict[str, str] = {}
        for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
            device, point = line.split()[2], line.split()[4]
            if point.startswith(self.skipped) or not os.path.isdir(point):  # noqa: PTH112 - False where it may not look
                continue
            if device not in found or len(point) < len(found[device]):
                found[device] = point
        return found

    def collect(self, now: float) -> Iterator[Chart]:
        for point in self.mounts().values():
            space = os.statvfs(point)
            if not space.f_blocks:
                continue
            unit = space.f_frsize / 1e9
            yield Chart(
                f"phoenix_disk.{point.strip('/').replace('/', '_') or 'root'}",
                f"Space of {point}",
                "GB",
                "phoenix.disk",
                {"available": space.f_bavail * unit, "used": (space.f_blocks - space.f_bfree) * unit},
            )


class AccessLog(Collector):
    """Answers by class of status, and the share of failed ones in the last minute, from nginx's access log."""

    window_s = 60
    most_bytes = 8 << 20

    def __init__(self, path: str, minimum: int) -> None:
        self.path, self.minimum = Path(path), minimum
        self.inode, self.offset, self.last = 0, -1, 0.0
        self.rest = b""
        self.window: deque[dict[str, int]] = deque(maxlen=self.window_s // self.interval)

    def read(self) -> bytes:
        """What was appended since the last time; after a rotation, the new file from its beginning."""
        seen = self.path.stat()
        if seen.st_ino != self.inode or seen.st_size < self.offset:
            self.offset = seen.st_size if self.offset < 0 else 0
            self.inode, self.rest = seen.st_ino, b""
        # Behind by more than can be read at once: what is recent counts.
        self.offset = max(self.offset, seen.st_size - self.most_bytes)
        with self.path.open("rb") as stream:
            stream.seek(self.offset)
            data = self.rest + stream.read(self.most_bytes)
            self.offset = stream.tell()
        complete, newline, self.rest = data.rpartition(b"\n")
        return complete + newline

    def collect(self, now: float) -> Iterator[Chart]:
        counts = count_statuses(self.read())
        self.window.append(counts)
        seconds, self.last = now - (self.last or now - self.interval), now
        yield Chart(
            "phoenix_nginx.answers",
            "Answers by status",
            "answers/s",
            "phoenix.answers",
            {name: number / seconds for name, number in counts.items()},
        )
        share = error_share(self.window, self.minimum)
        yield Chart(
            "phoenix_nginx.errors",
            "Answers 5xx in the last minute",
            "% of answers",
            "phoenix.answer_errors",
            {"share": share},
        )


class NginxStatus(Collector):
    """Connections of nginx, from its own counters (stub_status)."""

    interval = 10

    def __init__(self, url: str) -> None:
        self.url = url

    def collect(self, now: float) -> Iterator[Chart]:
        with urllib.request.urlopen(self.url, timeout=TIMEOUT_S) as answer:
            text = answer.read().decode()
        found = re.findall(r"(Active|Reading|Writing|Waiting)\D*(\d+)", text)
        values = {name.lower(): int(number) for name, number in found}
        yield Chart("phoenix_nginx.connections", "Connections", "connections", "phoenix.connections", values)


class Certificate(Collector):
    """Days until the certificate that is served ends; what is served counts, not what lies in a file."""

    interval = 60

    def __init__(self, address: str, port: int, name: str) -> None:
        self.address, self.port, self.name = address, port, name

    def collect(self, now: float) -> Iterator[Chart]:
        context = ssl.create_default_context()
        # Only the date is read: a certificate of one's own has one too.
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with (
            socket.create_connection((self.address, self.port), TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=self.name) as secure,
        ):
            certificate = secure.getpeercert(binary_form=True) or b""
        command = ["openssl", "x509", "-inform", "DER", "-noout", "-enddate"]
        shown = subprocess.run(command, input=certificate, capture_output=True, timeout=8, check=True).stdout.decode()
        days = (ssl.cert_time_to_seconds(shown.strip().partition("=")[2]) - time.time()) / 86400
        yield Chart(
            f"phoenix_certificate.port_{self.port}",
            f"Days left of {self.name}",
            "days",
            "phoenix.certificate",
            {"left": days},
        )


class MongoDb(Collector):
    """This host's member of the replica set, as the monitoring user sees it."""

    operations = ("insert", "query", "update", "delete", "getmore", "command")

    def __init__(self, port: int, user: str, password: str, library: str) -> None:
        sys.path.insert(0, library)
        import pymongo  # noqa: PLC0415 - only where there is a database, from the folder named

        self.client = pymongo.MongoClient(
            "127.0.0.1",
            port,
            username=user,
            password=password,
            directConnection=True,
            maxPoolSize=1,
            serverSelectionTimeoutMS=TIMEOUT_S * 1000,
            connectTimeoutMS=TIMEOUT_S * 1000,
            socketTimeoutMS=TIMEOUT_S * 1000,
            # The driver asks by itself as well; this rarely is enough, for it is asked here all the time.
            heartbeatFrequencyMS=60000,
        )
        self.failure: type[Exception] = pymongo.errors.PyMongoError
        self.last: tuple[float, dict[str, int]] | None = None

    def collect(self, now: float) -> Iterator[Chart]:
        up = primary = False
        lag = 0.0
        try:
            status = self.client.admin.command("replSetGetStatus")
            server = self.client.admin.command("serverStatus", oplog=1, metrics=0, wiredTiger=0, tcmalloc=0)
            oplog = self.client.local.command("collStats", "oplog.rs")
        except self.failure as error:
            print(f"mongodb: {error}"[:300], file=sys.stderr)
            self.last = None
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


class Metrics(Collector):
    """What other parts of Phoenix write into *.prom files, and for how long an expected file has been missing."""

    def __init__(self, folders: list[str], expected: list[str], since: Path) -> None:
        self.folders, self.expected, self.since = [Path(folder) for folder in folders], expected, since
        self.seen: dict[str, float] = {}  # by part: when its file was last there, seconds since 1970

    def first_start(self) -> float:
        """When this collector first ran on this host, seconds since 1970: a file can't be late before."""
        if not self.since.exists():
            self.since.touch()
        return self.since.stat().st_mtime

    def collect(self, now: float) -> Iterator[Chart]:
        clock = time.time()
        found = set()
        for file in sorted(file for folder in self.folders for file in folder.glob("*.prom")):
            try:
                written, text = file.stat().st_mtime, file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                print(f"Metrics: {file}: {error}", file=sys.stderr)  # missing, then: the others still count
                continue
            found.add(file.stem)
            for name, value in parse_metrics(text).items():
                yield metric_chart(name, value, written, clock)
        for part in self.expected:
            if part in found:
                self.seen[part] = clock
            missing = clock - self.seen.setdefault(part, self.first_start())
            yield Chart(
                f"phoenix_missing.{part}",
                f"For how long there have been no metrics of the {part}",
                "seconds",
                "phoenix.metrics_missing",
                {"missing": missing},
            )


class FleetWatch(Collector):
    """On the parent: hosts that are silent, and instances that run against those wanted."""

    interval = 5

    def __init__(self, url: str, hosts: list[str], application_hosts: list[str], capacity_file: str) -> None:
        self.url, self.hosts, self.application_hosts = url, hosts, application_hosts
        self.capacity = Path(capacity_file)
        # Nobody is silent before the parent had time to listen.
        self.heard: dict[str, float] = dict.fromkeys(hosts, time.time())
        self.agents: dict[str, str] = {}

    def ask(self, path: str) -> dict[str, Any]:
        """What the parent answers; nothing where it does not."""
        try:
            with urllib.request.urlopen(f"{self.url}/{path}", timeout=TIMEOUT_S) as answer:
                return dict(json.load(answer))
        except (OSError, http.client.HTTPException, ValueError):
            return {}

    def find_agents(self) -> None:
        """Note who speaks for each name: of a machine that was replaced, the parent still has the former agent, too."""
        for agent in self.ask("api/v1/info").get("mirrored_hosts_status", []):
            if agent["reachable"]:
                self.agents[agent["hostname"]] = agent["guid"]

    def newest(self, host: str, chart: str) -> tuple[float, float] | None:
        """Newest (time, value) of a host's chart within the last 30 s, or None."""
        if host not in self.agents:
            return None
        rows = self.ask(f"host/{self.agents[host]}/api/v1/data?chart={chart}&after=-30&format=json").get("data", [])
        return next(((row[0], row[1]) for row in rows if len(row) > 1 and row[1] is not None), None)

    def collect(self, now: float) -> Iterator[Chart]:
        self.find_agents()
        for host in self.hosts:
            beat = self.newest(host, "phoenix_agent.beat")
            if beat is not None:
                self.heard[host] = beat[0]
            silent = max(0.0, time.time() - self.heard[host])
            yield Chart(
                f"phoenix_silent.{host}",
                f"For how long {host} has been silent",
                "seconds",
                "phoenix.silent",
                {"silent": silent},
            )
        try:
            wanted = int(self.capacity.read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            return
        counts = [self.newest(host, "phoenix_fleet.instances") for host in self.application_hosts]
        running = sum(count[1] for count in counts if count is not None)
        yield Chart(
            "phoenix_fleet.capacity",
            "Instances",
            "instances",
            "phoenix.capacity",
            {"wanted": wanted, "running": running, "missing": max(0.0, wanted - running)},
        )


# --- wiring -----------------------------------------------------------------------------------------------------------
def collectors(config: Config) -> Iterator[Collector]:
    """The collectors that the configuration has a section for."""
    yield Beat()
    yield Disks()
    if services := config.get("services"):
        yield ServiceCpu(services["patterns"])
        yield ServiceRestarts(services["patterns"], services["ordinary"])
    if nginx := config.get("nginx"):
        yield AccessLog(nginx["access_log"], nginx["least_answers"])
        yield NginxStatus(nginx["status_url"])
    for certificate in config.get("certificates", []):
        yield Certificate(**certificate)
    if mongodb := config.get("mongodb"):
        yield MongoDb(**mongodb)
    if metrics := config.get("metrics"):
        yield Metrics(metrics["folders"], metrics["expected"], Path(metrics["since"]))
    if fleet := config.get("fleet"):
        yield FleetWatch(**fleet)


def run(collector: Collector, output: Output) -> None:
    """Collect for ever, at whole multiples of the interval; a failed collection is logged and leaves a gap."""
    interval = collector.interval
    shown: dict[str, tuple[Chart, float]] = {}
    while True:
        clock = time.time()
        time.sleep(interval - clock % interval)
        now = time.monotonic()
        try:
            for chart in collector.collect(now):
                output.emit(chart, interval, now)
                shown[chart.id] = (chart, now)
        except BrokenPipeError:
            os._exit(0)  # Netdata is gone, and the other threads have nobody to write to either.
        except Exception as error:  # noqa: BLE001 - a plugin that ends too often is not started again
            print(f"{type(collector).__name__}: {type(error).__name__}: {error}", file=sys.stderr)
            continue
        for chart, last in list(shown.values()):
            if now - last > max(FORGET_S, 3 * interval):
                output.forget(chart, interval)
                del shown[chart.id]


def write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def main() -> None:
    config = json.loads(CONFIGURATION.read_text(encoding="utf-8"))
    output = Output(write)
    threads = [threading.Thread(target=run, args=(collector, output)) for collector in collectors(config)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
