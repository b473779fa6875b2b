"""Deploys as clients see them: nothing fails, however bad the new version is; and the fleet's release afterwards.

Whole plays on the running fleet, under load. The fleet ends with the release that it started with.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import releases
from tests.harness import plays, programs
from tests.harness.autoscaling import capacity_of, consistent
from tests.harness.deploys import PLAY_SECONDS, configurations_of, history, last, play, put_back, releases_of, succeed
from tests.harness.hosts import Hosts, output_of, remote
from tests.harness.load import RATE, assert_none_failed, load
from tests.harness.waiting import wait_for

Machines = dict[str, Any]


@pytest.fixture(scope="module")
def start(application_hosts: Hosts, inventory: str) -> Iterator[str]:
    """The release that the fleet has, and gets back after a test that failed, for the tests that follow."""
    (release,) = releases_of(application_hosts)
    capacity = capacity_of(inventory)
    yield release
    if releases_of(application_hosts) != {release}:
        succeed(play(inventory, "rollback", phoenix_version=release))
    if capacity_of(inventory) != capacity:
        succeed(play(inventory, "scale", phoenix_capacity=capacity, scale_lock_wait=60))


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Any]:
    """Make the source of a version with this defect, different at each call."""
    yield lambda defect: str(releases.make(defect, tmp_path / defect, time.strftime("%H%M%S")))


# A release command that takes longer than it may.
ENDLESS = {"phoenix_release_command": "sleep 600", "phoenix_release_command_timeout": 3}


def test_a_slow_version_is_stopped_at_the_canary(
    client: Any,
    base_url: str,
    inventory: str,
    application_hosts: Hosts,
    application_pids: Callable[[], Any],
    control: Any,
    start: str,
    source: Any,
) -> None:
    """And before that, at its release command: then nothing of it ran, and no instance was touched."""
    made = source("slow")
    with load(client, base_url) as result:
        before = application_pids()
        roll = play(inventory, "deploy", phoenix_source=made, **ENDLESS)
        output = put_back(roll, application_hosts, control, start)
        assert re.search(r"`sleep 600` failed on .* took longer than 3 s and was ended", output, re.DOTALL), (
            plays.excerpt(output)
        )
        assert application_pids() == before
        output = put_back(play(inventory, "deploy", phoenix_source=made), application_hosts, control, start)
    # The load decides which is found first: slow answers, or fewer requests, since the balancers avoid a slow instance.
    assert re.search(r"its median was|it answered \d+ requests while each of the others", output), plays.excerpt(output)
    assert "phoenix_deploy_last_result 1\n" in control.check_output("cat /var/lib/phoenix/metrics/deploy.prom") + "\n"
    failed = last(control)["version"]
    for host in application_hosts.values():
        assert not host.file(f"/opt/phoenix/releases/{failed}").exists, "a release that never served is kept"
    assert_none_failed(result)


def test_a_version_that_fails_later_is_found_by_its_answers(
    client: Any, base_url: str, inventory: str, application_hosts: Hosts, control: Any, start: str, source: Any
) -> None:
    """It passes its probes, then fails clients' requests: few, until the load balancers stop using it."""
    with load(client, base_url) as result:
        put_back(play(inventory, "deploy", phoenix_source=source("late")), application_hosts, control, start)
    assert result["failed"] <= result["sent"] / 100, result


def memory_limits(hosts: Hosts) -> dict[str, str]:
    """Those of the running instances, as systemd has them."""
    shown = "systemctl show --property=Id,MemoryMax 'phoenix@*.service'"
    return {name: host.check_output(shown) for name, host in hosts.items()}


def test_a_configuration_that_fails_reaches_nobody_but_the_canary(
    client: Any, base_url: str, inventory: str, application_hosts: Hosts, control: Any, start: str
) -> None:
    """Neither an instance elsewhere that is restarted, nor a new one, gets what the canary refused."""
    (before,) = configurations_of(application_hosts)
    limits = memory_limits(application_hosts)
    with load(client, base_url) as result:
        refused = {"phoenix_environment": {"NODE_OPTIONS": "--bogus"}, "phoenix_memory_max": "300M"}
        roll = play(inventory, "site", "--tags", "phoenix,nginx", **refused)
        put_back(roll, application_hosts, control, start)
        assert memory_limits(application_hosts) == limits, "systemd has read what the instances were put back to"
        assert configurations_of(application_hosts) == {before}
        # The scaling starts new instances, on hosts that have the refused one written.
        succeed(play(inventory, "scale", phoenix_capacity=3, scale_lock_wait=60))
        assert configurations_of(application_hosts) == {before}
        succeed(play(inventory, "scale", phoenix_capacity=2, scale_lock_wait=60))
    assert_none_failed(result)
    host = application_hosts["app2"]
    host.check_output("systemctl kill --signal=KILL phoenix@3000")
    page = remote("fetch", "http://127.0.0.1:3000/", 5)
    wait_for(lambda: host.run(page).stdout.startswith("status 200"), 30, "the instance is back")


def test_a_deploy_cut_by_controls_reboot_is_rolled_back_by_itself(
    client: Any,
    base_url: str,
    inventory: str,
    application_hosts: Hosts,
    control: Any,
    start: str,
    source: Any,
    machines: Machines,
) -> None:
    with load(client, base_url) as result:
        deploy = play(inventory, "deploy", phoenix_source=source("good"), deploy_canary_seconds=60)
        end = time.monotonic() + PLAY_SECONDS
        # While the canary runs the new release.
        while len(releases_of(application_hosts)) == 1:
            assert deploy.poll() is None and time.monotonic() < end, "the canary was not switched"
            time.sleep(1)
        machines["control1"].restart(timeout=30)
        output, _ = deploy.communicate(timeout=PLAY_SECONDS)
        assert deploy.returncode != 0, plays.excerpt(output)
        wait_for(lambda: output_of(control, "systemctl is-system-running") == "running", 60, "control again")
        assert len(releases_of(application_hosts)) == 2, plays.excerpt(output)
        # The lock ended with that boot. Nobody does anything: the timer phoenix-reconcile finds what was cut.
        wait_for(lambda: all(one["result"] for one in history(control, 2)), 600, "what was cut has a result")
    cut, roll = history(control, 2)
    assert (cut["what"], cut["result"], cut["reason"]) == ("deploy", "rolled back", "its play was interrupted")
    assert (roll["what"], roll["result"], roll["version"]) == ("roll", "good", start)
    assert releases_of(application_hosts) == {start}
    assert_none_failed(result)


def test_a_deploy_a_scaling_and_site_at_once_and_the_way_back_are_unseen(
    client: Any, base_url: str, inventory: str, application_hosts: Hosts, control: Any, start: str, source: Any
) -> None:
    """They take turns by means of the lock; capacity and release are right in the end."""
    # Three plays and all hosts share this machine's cores: at the full rate requests queue, first at a new instance,
    # whose canary is refused for it.
    with load(client, base_url, RATE / 2) as result:
        deploy = play(inventory, "deploy", phoenix_source=source("good"))
        wait_for(lambda: "held by" in output_of(control, programs.LOCK_SHOW), 200, "the deploy holds the lock")
        scale = play(inventory, "scale", phoenix_capacity=4, scale_lock_wait=300)
        site = play(inventory, "site", "--tags", "phoenix,nginx")
        succeed(deploy, scale, site)
        assert last(control)["result"] == "good"
        (new,) = releases_of(application_hosts)
        assert new == last(control)["version"] != start
        assert capacity_of(inventory) == 4 and consistent(inventory)
        for name, variables in (("rollback", {"phoenix_version": start}), ("scale", {"phoenix_capacity": 2})):
            began = time.monotonic()
            succeed(play(inventory, name, **variables))
            print(f"{name}: {time.monotonic() - began:.0f} s")
            assert consistent(inventory)
    assert releases_of(application_hosts) == {start}
    assert capacity_of(inventory) == 2
    assert_none_failed(result)


def test_the_deploy_key_can_do_nothing_else(control: Any) -> None:
    if not control.user("phoenix-deploy").exists:
        pytest.skip("the pipeline is not set up here (playbooks/ci.yml)")
    for words in ("", "bash", "deploy", "deploy ../x", "deploy a b", "package HEAD", "scale 4", "rollback $(id)"):
        done = control.run(f"SSH_ORIGINAL_COMMAND='{words}' runuser -u phoenix-deploy -- {programs.PIPELINE}")
        assert done.rc == 64, (words, done.stdout, done.stderr)
