"""Cost and losses of metering, an instance's throughput, and how the capacity follows a jump of the load."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from pathlib import Path

from bench.balancer import requests_per_second
from bench.fleet import Fleet, Row
from phoenix.autoscaler.meter import Meter
from tests.harness.autoscaling import Watch, actions_of, instances_of, settings_of, settle, status_of
from tests.harness.hosts import pid_of, remote
from tests.harness.load import held, load
from tests.harness.waiting import wait_for
from tests.simulation.__main__ import DRAIN, STARTUP, THROUGHPUT
from tests.simulation.run import Run

RATE = 5000  # datagrams a second
SECONDS = 5
OPEN = 50  # requests held open
DESIGN = "reference: the design's"
# Next to bench.json, with a chart of the same name; docs/ has copies from one run.
RECORD = Path("bench-step.json")


def measure(fleet: Fleet) -> list[Row]:
    return [counting(), *receiving(fleet), opened(fleet), throughput(fleet), *step(fleet)]


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


def throughput(fleet: Fleet) -> Row:
    """Saturate one instance, past nginx."""
    (balancer, *_) = fleet.hosts("lb").values()
    pools = balancer.check_output("cat /etc/nginx/phoenix/upstreams.conf")
    address = re.search(r"^\s*server (\S+) (?!.* down;)", pools, re.MULTILINE)
    assert address, pools
    rate = requests_per_second(balancer, f"http://{address[1]}/")
    target = settings_of(fleet.inventory).target
    return Row(THROUGHPUT, rate, "requests/s", target, "reference: the target; TLS and nginx excluded")


def opened(fleet: Fleet) -> Row:
    """Hold requests open, and see how many the autoscaler counts."""
    before = status_of(fleet.inventory)["open_requests"]
    with held(fleet.client(), fleet.url, OPEN):
        time.sleep(3)  # heartbeats and the status come each second
        seen = status_of(fleet.inventory)["open_requests"] - before
    return Row("metering: open requests seen", seen, "requests", OPEN, "reference: held open by the client")


def step(fleet: Fleet) -> list[Row]:
    """Measure a step from 5 to 60 requests a second, and back; and simulate it with the start-up measured."""
    settle(fleet.inventory)
    client = fleet.client()
    with Watch(fleet.inventory) as watch:
        with load(client, fleet.url, 5) as low:
            time.sleep(28)
        with load(client, fleet.url, 60) as high:
            time.sleep(58)
        with load(client, fleet.url, 5) as after:
            wait_for(lambda: watch.rotation[-1][1] <= 2, 300, "spare capacity gone")
            time.sleep(10)
            stopped = time.monotonic() + wait_for(lambda: instances_of(fleet.inventory) <= 2, 120, "instances stopped")
    origin, began, ended = (float(phase["began"]) for phase in (low, high, after))
    reached = next((at for at, number in watch.rotation if at >= began and number >= 6), float("inf"))
    back = next(at for at, number in watch.rotation if at >= ended and number <= 2)
    decided = next((at for at, count in actions_of(fleet.inventory, began) if count >= 6), float("nan"))
    startup = reached - decided
    sent = [
        phase["began"] - origin + number / rate
        for phase, rate in ((low, 5), (high, 60), (after, 5))
        for number in range(phase["sent"])
    ]
    run = Run("A step from 5 to 60 requests/s and back", sent, watch.each_second(origin, int(max(sent))))
    settings = settings_of(fleet.inventory)
    simulated = run.simulated(settings, startup)
    run.save(RECORD, simulated, settings.target)
    up = next((at for at, count in simulated.actions if at >= began - origin and count >= 6), float("inf")) + startup
    down = next((at for at, count in simulated.actions if at >= ended - origin and count <= 2), float("inf"))
    failed = sum(int(phase["failed"]) for phase in (low, high, after))
    measured = "reference: measured"
    return [
        Row(STARTUP, startup, "s", None, "instances ready and in rotation; for python -m tests.simulation --bench"),
        Row(DRAIN, max(0.0, stopped - back), "s", None, "out of rotation until stopped; the same"),
        Row("step 5 to 60/s: capacity in rotation", reached - began, "s", 10, DESIGN),
        Row("step 5 to 60/s: as simulated with this start-up", up - (began - origin), "s", reached - began, measured),
        Row("step 60 to 5/s: spare capacity gone", back - ended, "s", None, "stabilisation included"),
        Row("step 60 to 5/s: as simulated", down - (ended - origin), "s", back - ended, measured),
        Row("step 5 to 60/s and back: failed", float(failed), "requests", None, f"of {len(sent)}"),
    ]
