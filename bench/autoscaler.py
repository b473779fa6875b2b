"""Cost and losses of metering, and the time in which the capacity follows a jump of the load."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from pathlib import Path

from bench.fleet import Fleet, Row
from tests.harness.autoscaling import Watch, settle
from tests.harness.hosts import pid_of, remote
from tests.harness.load import load
from tests.harness.waiting import wait_for
from tests.simulation import plot

from phoenix.autoscaler.meter import Meter  # isort: skip

RATE = 5000  # datagrams a second
SECONDS = 5
DESIGN = "reference: the design's"
# Next to bench.json, with a chart of the same name; docs/ has copies from one run.
RECORD = Path("bench-step.json")


def measure(fleet: Fleet) -> list[Row]:
    return [counting(), *receiving(fleet), *step(fleet)]


def counting() -> Row:
    """Measure the daemon's way of receiving requests, over a real socket, without a daemon."""
    meter = Meter(["127.0.0.1"], 600, time.monotonic())
    used = 0.0
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs,
    ):
        ours.bind(("127.0.0.1", 0))
        ours.setblocking(False)
        theirs.connect(ours.getsockname())
        for number in range(20000):
            theirs.send(b"<190>Nov 24 12:00:00 phoenix: r %d 1" % number)
            if number % 50 == 49:  # what arrives in 10 ms
                began = time.thread_time()
                with contextlib.suppress(BlockingIOError):
                    while True:
                        data, source = ours.recvfrom(512)
                        meter.receive(data, source[0], 0.0)
                used += time.thread_time() - began
    return Row("metering: CPU for a request", used / meter.counters.requests * 1e6, "us", 20, DESIGN)


def receiving(fleet: Fleet) -> list[Row]:
    """Send heartbeats, which cause no action, from a load balancer to the running daemon."""
    (balancer, *_) = fleet.hosts("lb").values()
    (control, *_) = fleet.hosts("control").values()
    address = re.search(r"syslog:server=([0-9.]+):(\d+)", balancer.check_output("cat /etc/nginx/nginx.conf"))
    assert address, "the load balancer has no address to report requests to"

    threads = f"/proc/{pid_of(control, 'phoenix-autoscaler')}/task/*/schedstat"

    def received() -> float:
        text = control.check_output("cat /var/lib/phoenix/autoscaler/autoscaler.prom")
        return float(text.partition("\nphoenix_autoscaler_heartbeats_total ")[2].split()[0])

    def used() -> int:
        # Of its threads, in nanoseconds: a container's systemd may have no CPU accounting.
        return int(control.check_output(f"cat {threads} | awk '{{ns += $1}} END {{printf \"%d\", ns}}'"))

    idle = -used()
    time.sleep(SECONDS)
    idle += used()
    before, busy = received(), -used()
    sent = int(balancer.check_output(remote("datagrams", address[1], address[2], RATE, SECONDS)))
    time.sleep(2)  # the daemon writes its numbers once a second
    busy += used()
    lost = sent - (received() - before)
    return [
        Row("metering: CPU of the daemon for a datagram", (busy - idle * 1.4) / sent / 1000, "us", 20, DESIGN),
        # nginx itself sends one each second meanwhile.
        Row(f"metering: lost at {RATE}/s", max(0.0, lost), "datagrams", None, f"of {sent}"),
    ]


def step(fleet: Fleet) -> list[Row]:
    """Measure a step from 5 to 60 requests a second, and back."""
    settle(fleet.inventory)
    client = fleet.client()
    with Watch(fleet.inventory) as watch:
        with load(client, fleet.url, 5) as low:
            time.sleep(28)
        began = time.monotonic()
        with load(client, fleet.url, 60) as high:
            time.sleep(58)
        ended = time.monotonic()
        with load(client, fleet.url, 5) as after:
            wait_for(lambda: watch.rotation[-1][1] <= 2, 300, "spare capacity gone")
            time.sleep(10)
    reached = next((at for at, balancer in watch.rotation if at >= began and balancer >= 6), None)
    back = next(at for at, balancer in watch.rotation if at >= ended and balancer <= 2)
    failed = sum(int(str(result.get("failed", 0))) for result in (low, high, after))
    watch.save(RECORD, watch.rotation[0][0])
    plot.save(RECORD.with_suffix(".svg"), [plot.recorded_step(RECORD)])
    until = [(reached or float("inf")) - began, back - ended]
    return [
        Row("step 5 to 60/s: capacity in rotation", until[0], "s", 10, DESIGN),
        Row("step 60 to 5/s: spare capacity gone", until[1], "s", None, "stabilisation included"),
        Row("step 5 to 60/s and back: failed", float(failed), "requests"),
    ]
