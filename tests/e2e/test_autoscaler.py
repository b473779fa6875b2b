"""The capacity follows the load: it scales out at once and in later, without a failed request.

Longer measurements (steady load with noise) are in docs/autoscaler.md, with their commands.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness import plays, programs
from tests.harness.autoscaling import Watch, capacity_of, consistent, settle, status_of, still
from tests.harness.hosts import hosts_of, output_of, remote
from tests.harness.load import assert_none_failed, held, load, send
from tests.harness.waiting import wait_for


@pytest.fixture(scope="module", autouse=True)
def small_again(inventory: str) -> Iterator[None]:
    """Leave the fleet at its minimum at once: the autoscaler would wait until that is safe."""
    yield
    with still(inventory):
        done = plays.run(inventory, "scale", phoenix_capacity=2, scale_lock_wait=60)
        assert done.returncode == 0, plays.excerpt(done.stdout)


def test_a_corrupt_capacity_is_counted_again(inventory: str, control: Any) -> None:
    settle(inventory)
    control.check_output("echo rubbish > /var/lib/phoenix/state/capacity")
    wait_for(lambda: control.run("cat /var/lib/phoenix/state/capacity").stdout.strip() == "2", 60, "the capacity again")
    assert control.file("/var/lib/phoenix/state/capacity.corrupt").content_string == "rubbish\n"


def test_open_requests_are_seen_while_they_last(inventory: str, base_url: str, client: Any) -> None:
    before = status_of(inventory)["open_requests"]
    with held(client, base_url, 40):
        wait_for(lambda: status_of(inventory)["open_requests"] >= before + 40, 10, "40 open requests in the status")
    wait_for(lambda: status_of(inventory)["open_requests"] < before + 40, 10, "their end in the status")


def test_metrics_and_status_show_the_capacity(inventory: str, control: Any) -> None:
    metrics = control.check_output(remote("fetch", "http://127.0.0.1:9109/metrics"))
    written = control.file("/var/lib/phoenix/metrics/autoscaler.prom").content_string
    for name in (
        "requests_per_second",
        "open_requests",
        "capacity",
        "desired",
        "at_maximum",
        "data_age_seconds",
        "actions_total",
    ):
        assert f"\nphoenix_autoscaler_{name} " in metrics
        assert f"\nphoenix_autoscaler_{name} " in written
    status = plays.run(inventory, "status")
    assert status.returncode == 0, plays.excerpt(status.stdout)
    assert "AUTOSCALER capacity 2" in status.stdout
    assert control.run("systemctl is-active phoenix-autoscaler").stdout.strip() == "active"


def test_out_and_in_without_a_failed_request(inventory: str, base_url: str, client: Any, control: Any) -> None:
    settle(inventory)
    token = control.check_output(f"{programs.LOCK_ACQUIRE} --holder tests --purpose deploy --lease 60")
    with Watch(inventory) as watch, load(client, base_url, 60) as high:
        # During a deploy nothing changes; the capacity follows as soon as the lock is free.
        time.sleep(5)
        assert capacity_of(inventory) == 2
        status = status_of(inventory)
        assert "frozen: tests holds the lock for deploy" in status["frozen"], status
        control.check_output(f"{programs.LOCK_RELEASE} --token {token}")
        took = wait_for(lambda: watch.rotation[-1][1] >= 6, 30, "6 instances in rotation")
        print(f"in rotation {took:.1f} s after the lock was free")
        time.sleep(15)
    assert_none_failed(high)
    most = max(number for _, number in watch.rotation)
    assert most <= 8, f"{most} instances for 60 requests a second"

    with Watch(inventory) as watch, load(client, base_url, 5) as low:
        # Refused requests are not the application's load.
        flood = send(client, f"{base_url}/crash", 200, 15)
        assert flood["failed"] == flood["sent"], "an unwanted route was answered with 200"
        took = wait_for(lambda: watch.rotation[-1][1] <= 2, 140, "2 instances in rotation")
        print(f"spare instances gone after {took:.0f} s")
    assert_none_failed(low)
    assert max(number for _, number in watch.rotation) <= most
    wait_for(lambda: consistent(inventory), 20, "record, pools and instances that agree")
    decisions = [made for made in status_of(inventory)["decisions"] if made["action"] == "in"]
    assert decisions[-1]["reason"]


def test_nothing_in_the_middle_changes_the_capacity(
    inventory: str, base_url: str, client: Any, control: Any, machines: dict[str, Any]
) -> None:
    """Control reboots, a load balancer restarts and site.yml runs, all under a load that needs six instances."""
    settle(inventory)
    needed = 6

    def right() -> bool:
        return capacity_of(inventory) >= needed and consistent(inventory)

    with load(client, base_url, needed * 10) as sent:
        wait_for(right, 40, "the needed capacity")
        before = capacity_of(inventory)
        machines["control1"].restart(timeout=30)
        running = "systemctl is-active phoenix-autoscaler"
        took = wait_for(lambda: output_of(control, running) == "active", 60, "the autoscaler, once control is back")
        assert capacity_of(inventory) == before
        for host in hosts_of("lb", inventory).values():
            assert host.run("systemctl restart nginx").rc == 0
        assert capacity_of(inventory) >= needed
        wait_for(right, 60, "record, pools and instances that agree")
        # Of a whole run the roles that go by the capacity: the others cost two minutes.
        done = plays.run(inventory, "site", "--tags", "phoenix,nginx")
        assert done.returncode == 0, plays.excerpt(done.stdout)
        assert capacity_of(inventory) >= needed
        # A scaling that waited for the lock may have begun.
        wait_for(right, 60, "record, pools and instances that agree")
    print(f"capacity {before} throughout; autoscaler runs {took:.1f} s after control is back")
    # A restart, unlike a reload, refuses connections for a moment.
    assert sent["failed"] <= 60, sent
