"""Wires the configured collectors to Netdata."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from phoenix.monitoring.charts import Chart, Collector, Output
from phoenix.monitoring.fleet import FleetWatch
from phoenix.monitoring.floating import FloatingAddresses, FloatingWatch
from phoenix.monitoring.gauges import Metrics
from phoenix.monitoring.machine import Beat, Disks
from phoenix.monitoring.mongodb import MongoDb
from phoenix.monitoring.nginx import AccessLog, Certificate, NginxStatus, Site
from phoenix.monitoring.services import FailedUnits, ServiceCpu, ServiceRestarts, StoppedUnits

CONFIGURATION = Path("/etc/netdata/phoenix.json")
# A chart that was not seen for this long is taken down: its service or metric is gone for good.
FORGET_S = 60.0

Config = Mapping[str, Any]


def collectors(config: Config) -> Iterator[Collector]:
    """The collectors that the configuration has a section for."""
    yield Beat()
    yield Disks()
    if services := config.get("services"):
        yield ServiceCpu(services["patterns"], services["parallel"])
        yield ServiceRestarts([*services["patterns"], *services["units"]], services["ordinary"])
        yield FailedUnits(services["may_fail"])
        yield StoppedUnits(services["units"])
    if nginx := config.get("nginx"):
        yield AccessLog(nginx["access_log"], nginx["least_answers"])
        yield NginxStatus(nginx["status_url"])
    for certificate in config.get("certificates", []):
        yield Certificate(**certificate)
    for site in config.get("sites", []):
        yield Site(**site)
    if mongodb := config.get("mongodb"):
        yield MongoDb(**mongodb)
    if metrics := config.get("metrics"):
        yield Metrics(metrics["folders"], metrics["expected"], Path(metrics["since"]))
    if floating := config.get("floating"):
        yield FloatingAddresses(floating["addresses"])
    if watch := config.get("floating_watch"):
        yield FloatingWatch(**watch)
    if fleet := config.get("fleet"):
        yield FleetWatch(**fleet)


class Standstill(Collector):
    """For how long each kind of collector has not succeeded: its charts stand still, and their alarms with them."""

    def __init__(self, succeeded: Mapping[Collector, float]) -> None:
        self.succeeded = succeeded  # by collector: when it last did, in seconds of the monotonic clock

    def collect(self, now: float) -> Iterator[Chart]:
        oldest: dict[str, float] = {}
        for collector, then in self.succeeded.items():
            name = type(collector).__name__
            oldest[name] = min(then, oldest.get(name, then))
        for name, then in oldest.items():
            yield Chart(
                f"phoenix_collector.{name}",
                f"For how long {name} has not succeeded",
                "seconds",
                "phoenix.collector",
                {"age": max(0.0, now - then)},
            )


def run(collector: Collector, output: Output, succeeded: dict[Collector, float]) -> None:
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
        succeeded[collector] = now
        for chart, last in list(shown.values()):
            if now - last > max(FORGET_S, 3 * interval):
                output.forget(chart, interval)
                del shown[chart.id]


def write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """`collect`, with an interval that Netdata gives and that is not used."""
    if arguments[:1] != ["collect"]:
        print("usage: phoenixctl metrics collect", file=sys.stderr)
        return 64
    config = json.loads(CONFIGURATION.read_text(encoding="utf-8"))
    output = Output(write)
    succeeded: dict[Collector, float] = dict.fromkeys(collectors(config), time.monotonic())
    succeeded[Standstill(succeeded)] = time.monotonic()
    threads = [threading.Thread(target=run, args=(collector, output, succeeded)) for collector in list(succeeded)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 0
