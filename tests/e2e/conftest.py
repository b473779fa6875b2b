"""Fixtures of the end-to-end tests: a running fleet seen from outside, through its inventory.

PHOENIX_URL        address that is tested, for example https://192.0.2.11
PHOENIX_INVENTORY  inventory of the same fleet
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.harness import instances
from tests.harness.autoscaling import still
from tests.harness.hosts import Hosts, control_of, first_of, hosts_of
from tests.harness.machines import machines as all_machines

Pids = dict[str, tuple[int, int]]


@pytest.fixture(scope="session")
def base_url() -> str:
    url = os.environ.get("PHOENIX_URL", "")
    if not url:
        pytest.fail("PHOENIX_URL is not set: no fleet to test")
    return url.rstrip("/")


@pytest.fixture(scope="session")
def inventory() -> str:
    path = os.environ.get("PHOENIX_INVENTORY", "")
    if not path:
        pytest.fail("PHOENIX_INVENTORY is not set: the application cannot be observed")
    return path


@pytest.fixture(scope="module", autouse=True)
def autoscaler_still(request: pytest.FixtureRequest, inventory: str) -> Iterator[None]:
    """Stop the autoscaler for all tests but its own."""
    if request.module.__name__.endswith("test_autoscaler"):
        yield
        return
    with still(inventory):
        yield


@pytest.fixture(scope="session")
def application_hosts(inventory: str) -> Hosts:
    """The hosts of the group app."""
    hosts = hosts_of("app", inventory)
    assert hosts, f"the group app of {inventory} is empty"
    return hosts


@pytest.fixture(scope="session")
def application_pids(application_hosts: Hosts) -> Callable[[], Pids]:
    """Return a function that reads "host/unit" -> (main process, restarts) of each running phoenix@ instance.

    Two equal readings mean that no instance ended in between.
    """

    def read() -> Pids:
        pids: Pids = {}
        for name, host in application_hosts.items():
            shown = host.run("systemctl show 'phoenix@*.service' --property=Id,MainPID,NRestarts")
            assert shown.rc == 0, f"{name}: {shown.stderr}"
            for block in shown.stdout.strip().split("\n\n"):
                unit = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
                if "Id" in unit:
                    pids[f"{name}/{unit['Id']}"] = (int(unit["MainPID"]), int(unit["NRestarts"]))
        assert pids, "no phoenix@ unit found on any host of the group app"
        return pids

    return read


@pytest.fixture(scope="session")
def fleet(inventory: str) -> Hosts:
    """Every host of the fleet."""
    return hosts_of("all", inventory)


@pytest.fixture(scope="session")
def serving(inventory: str) -> Hosts:
    """App hosts that run ordinary instances (a standby host does not)."""
    found = instances.serving(inventory)
    assert len(found) > 1, f"serving: {list(found)}; the failure tests need two hosts"
    return found


@pytest.fixture(scope="session")
def client(inventory: str) -> Any:
    """The host that sends the load."""
    return first_of("client", inventory)


@pytest.fixture(scope="session")
def control(inventory: str) -> Any:
    """The first control host."""
    return control_of(inventory)


@pytest.fixture(scope="module")
def machines() -> Iterator[dict[str, Any]]:
    """Inventory name -> container. Containers that a test leaves stopped are started again."""
    found = all_machines()
    yield found
    for container in found.values():
        container.start()
