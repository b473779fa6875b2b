"""Load through the load balancer, sent from the inventory's client host."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tests.harness.hosts import remote
from tests.harness.waiting import wait_for

RATE = 200  # requests a second through the load balancer
LONGEST_S = 900
AFTER_S = 4  # of load after the test's own action, which recovered instances must bear, too


@contextmanager
def load(
    client: Any,
    url: str,
    rate: float | Sequence[int] = RATE,
    *options: str,
    method: str = "GET",
    longest: int = LONGEST_S,
) -> Iterator[dict[str, Any]]:
    """Send requests at this rate per second while the block runs; afterwards the dictionary holds the result.

    `rate` may be the number of each second. `began` in the result is a time of time.monotonic(): the lab's hosts share
    this machine's clock.
    `options` are those of the program, such as --retry.
    """
    rates = ",".join(map(str, rate)) if isinstance(rate, Sequence) else str(rate)
    words = (f"{url}/", rates, longest, "--method", method, *options)
    with running(client, f"phoenix-load-{method.lower()}", "load", *words) as result:
        yield result
    print(f"{method}, {rates:.40}/s: {summary(result)}")


def summary(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result without its series, and without what is known of each write."""
    return {name: value for name, value in result.items() if name not in ("series", "known")}


@contextmanager
def running(client: Any, unit: str, program: str, *words: Any) -> Iterator[dict[str, Any]]:
    """Run a program of tests/harness/remote on the client; afterwards the dictionary holds what it printed."""
    result: dict[str, Any] = {}
    written = f"/run/{unit}.json"
    runner = f"systemd-run --quiet --unit={unit} --collect --property=StandardOutput=file:{written} /usr/bin/python3"
    client.check_output(f"rm -f {written}; " + remote(program, *words, runner=runner))
    time.sleep(2)
    try:
        yield result
        time.sleep(AFTER_S)
    finally:
        client.run(f"systemctl kill --signal=TERM {unit}")
        wait_for(lambda: client.run(f"systemctl is-active --quiet {unit}").rc != 0, 60, "the load's end")
        result.update(json.loads(client.check_output(f"cat {written}")))


@contextmanager
def held(client: Any, url: str, count: int) -> Iterator[None]:
    """Hold so many requests open, whose bodies do not end, while the block runs."""
    unit, written = "phoenix-load-held", "/run/phoenix-load-held"
    runner = f"systemd-run --quiet --unit={unit} --collect --property=StandardOutput=file:{written} /usr/bin/python3"
    client.check_output(f"rm -f {written}; " + remote("hold", url, count, runner=runner))
    try:
        wait_for(lambda: client.run(f"grep -q open {written}").rc == 0, 30, f"{count} open requests")
        yield
    finally:
        client.run(f"systemctl stop {unit}")


def send(client: Any, url: str, rate: float, seconds: float) -> dict[str, Any]:
    """Send requests for this path, wait for the end, and return the result."""
    return dict(json.loads(client.check_output(remote("load", url, rate, seconds))))


def assert_none_failed(result: dict[str, Any]) -> None:
    assert result["failed"] == 0, result
    # A load that was not sent proves nothing.
    assert result["sent"] >= 0.9 * result["due"], result
