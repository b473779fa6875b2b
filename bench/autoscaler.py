"""Cost and losses of metering, and the time in which the capacity follows a jump of the load."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from datetime import datetime
from pathlib import Path

from bench.fleet import Fleet, Row
from tests.harness.autoscaling import Watch, instances_of, settle, status_of
from tests.harness.hosts import pid_of, remote
from tests.harness.load import load
from tests.harness.waiting import wait_for
from tests.simulation import plot
from tests.simulation.__main__ import DRAIN, STARTUP
from tests.simulation.replay import Fleet as SimulatedFleet
from tests.simulation.replay import replay
from tests.simulation.scalers import Phoenix

from phoenix.autoscaler.meter import Meter  # isort: skip
from phoenix.autoscaler.policy import Settings  # isort: skip

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


def decided(inventory: str, after: float) -> float:
    """Return when the autoscaler first decided to scale out, on time.monotonic(): all hosts share this one's clock."""
    offset = time.monotonic() - time.time()
    made = [one for one in status_of(inventory)["decisions"] if one["action"] == "out"]
    times = [datetime.fromisoformat(one["time"]).timestamp() + offset for one in made]
    return min((at for at in times if at >= after), default=float("nan"))


def simulated(startup: float) -> float:
    """Return the seconds until the policy has the capacity in rotation, for the same step in the simulation."""
    before, rate = 28, 60
    arrivals = [
        round((quarter + 1) * each / 4) - round(quarter * each / 4)
        for each, seconds in ((5, before), (rate, 58))
        for quarter in range(seconds * 4)
    ]
    scaler = Phoenix(Settings(minimum=2, maximum=12))
    replay(scaler, arrivals, SimulatedFleet(startup=startup, minimum=2, maximum=12), 2)
    enough = [at for at, decision in scaler.decisions if decision.count * 10 >= rate]
    return min(enough, default=float("inf")) - before + startup


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
            stopped = time.monotonic() + wait_for(lambda: instances_of(fleet.inventory) <= 2, 120, "instances stopped")
    reached = next((at for at, balancer in watch.rotation if at >= began and balancer >= 6), float("inf"))
    back = next(at for at, balancer in watch.rotation if at >= ended and balancer <= 2)
    startup = reached - decided(fleet.inventory, began)
    failed = sum(int(str(result.get("failed", 0))) for result in (low, high, after))
    watch.save(RECORD, watch.rotation[0][0])
    plot.save(RECORD.with_suffix(".svg"), [plot.recorded_step(RECORD)])
    until = [reached - began, back - ended]
    return [
        Row(STARTUP, startup, "s", None, "instances ready and in rotation; for python -m tests.simulation --bench"),
        Row(DRAIN, max(0.0, stopped - back), "s", None, "out of rotation until stopped; the same"),
        Row(
            "step 5 to 60/s: as simulated with this start-up", simulated(startup), "s", until[0], "reference: measured"
        ),
        Row("step 5 to 60/s: capacity in rotation", until[0], "s", 10, DESIGN),
        Row("step 60 to 5/s: spare capacity gone", until[1], "s", None, "stabilisation included"),
        Row("step 5 to 60/s and back: failed", float(failed), "requests"),
    ]
