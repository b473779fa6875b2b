"""The replica set of a running fleet: who is primary, its loss, and its settings."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from phoenix.database import tls
from tests.harness.hosts import PYTHON_WITH_DRIVER, Hosts, first_of, hosts_of, output_of, remote, ssh
from tests.harness.remote.by_tls import CAS
from tests.harness.waiting import wait_for

# How long lose_primary() writes, and when it kills the primary.
WRITING_SECONDS, LOSS_AFTER_SECONDS = 30, 3
STATUS = "phoenixctl host status"


def primaries(members: Hosts) -> list[str]:
    """List the members that are primary now."""
    command = remote("primary", runner=PYTHON_WITH_DRIVER)
    return [name for name, host in members.items() if output_of(host, command) == "True"]


def one_primary(members: Hosts, seconds: float = 60) -> str:
    """Wait until one member is primary, and return its name; an election may have none for a moment, or hand over."""
    found: list[str] = []

    def settled() -> bool:
        found[:] = primaries(members)
        return len(found) == 1

    wait_for(settled, seconds, "one primary")
    return found[0]


def admin_password(inventory: str) -> str:
    return (Path(inventory) / ".secrets" / "mongodb-admin").read_text().strip()


def admin(inventory: str) -> dict[str, str]:
    """The login of the lab's administrator, for ask() and answer()."""
    return {"user": "admin", "password": admin_password(inventory)}


def ask(
    inventory: str, host: str, command: Mapping[str, Any], database: str = "admin", **login: str
) -> subprocess.CompletedProcess[str]:
    """Run a database command on the member of this host, by remote/database_command.py, which takes the login."""
    order = {**login, "database": database, "command": command}
    return ssh(inventory, host, remote("database_command", runner=PYTHON_WITH_DRIVER), json.dumps(order))


def answer(
    inventory: str, host: str, command: Mapping[str, Any], database: str = "admin", **login: str
) -> dict[str, Any]:
    """The member's answer to ask(); where it refuses, what the program prints of that."""
    done = ask(inventory, host, command, database, **login)
    assert done.returncode == 0, f"{host}: {done.stderr}"
    return dict(json.loads(done.stdout))


def tls_modes(members: Hosts) -> set[str]:
    """The modes of TLS with which the members' servers run, by the configuration that each was started with."""
    return {
        tls.mode_of(output_of(host, "cat /run/mongodb/mongod.conf 2>/dev/null || true")) for host in members.values()
    }


def connection_string(inventory: str) -> str:
    """Return the application's connection string from its hosts, for Python's driver there; it holds a password."""
    environment = first_of("app", inventory).check_output("cat /etc/phoenix/configuration/environment")
    found = re.search(r'^DB_CONNECTION_STRING="?(mongodb:[^"\n]*)', environment, re.M)
    assert found, "no connection string in /etc/phoenix/configuration/environment"
    # Node.js has the CAs by a variable.
    return found[1] + (f"&tlsCAFile={CAS}" if "ssl=true" in found[1] else "")


def whole(members: Hosts) -> bool:
    """Whether one member is primary and every other one follows it."""
    roles = [json.loads(output_of(host, STATUS) or "{}").get("database") for host in members.values()]
    return sorted(map(str, roles)) == ["PRIMARY", *["SECONDARY"] * (len(roles) - 1)]


@contextmanager
def kept_down(host: Any) -> Iterator[None]:
    """Kill a member and keep it down while the block runs."""
    try:
        host.check_output("systemctl kill -s KILL mongod && systemctl stop mongod")
        yield
    finally:
        host.check_output("systemctl start mongod")


def another_is_primary(members: Hosts, lost: str) -> float:
    """Wait until one of the others is primary, and return how long that took, in seconds."""
    others = {name: host for name, host in members.items() if name != lost}
    return wait_for(lambda: len(primaries(others)) == 1, 60, f"one of {', '.join(others)} is primary")


def lose_primary(inventory: str) -> float:
    """Kill the primary while documents are written; return the longest time between two majority writes, in seconds.

    Afterwards the member runs again and there is one primary.

    Raises:
        AssertionError: no write was acknowledged after the loss.
    """
    members = hosts_of("db", inventory)
    primary = one_primary(members)
    writer = next(name for name in members if name != primary)
    command = remote("writes", WRITING_SECONDS, runner=PYTHON_WITH_DRIVER)
    with ThreadPoolExecutor() as pool:
        writing = pool.submit(ssh, inventory, writer, command, connection_string(inventory))
        time.sleep(LOSS_AFTER_SECONDS)
        with kept_down(members[primary]):
            done = writing.result()
    one_primary(members)
    assert done.returncode == 0, done.stderr
    gap = float(json.loads(done.stdout)["gap_s"])
    assert gap < WRITING_SECONDS - LOSS_AFTER_SECONDS - 2, f"no write was acknowledged for {gap} s after the loss"
    return gap


@contextmanager
def replica_set_settings(inventory: str, **settings: int) -> Iterator[None]:
    """Change settings of the replica set while the block runs."""

    def configure(values: Mapping[str, int]) -> dict[str, int]:
        primary = one_primary(hosts_of("db", inventory))
        order: dict[str, Any] = {"password": admin_password(inventory), "settings": dict(values)}
        command = remote("reconfigure", runner=PYTHON_WITH_DRIVER)
        done = ssh(inventory, primary, command, json.dumps(order))
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    before = configure(settings)
    try:
        yield
    finally:
        configure(before)
