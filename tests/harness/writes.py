"""Majority writes under which something happens to the fleet, and whether all members hold the same data afterwards."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pymongo.uri_parser import parse_uri

from tests.harness.database import connection_string
from tests.harness.hosts import PYTHON_WITH_DRIVER, hosts_of, remote, ssh, ssh_command
from tests.harness.waiting import wait_for

RATE = 20  # majority writes a second


@contextmanager
def writes(inventory: str, host: str, rate: float = RATE) -> Iterator[dict[str, Any]]:
    """Write from this host while the block runs; afterwards the dictionary holds what remote/acknowledged.py found."""
    result: dict[str, Any] = {}
    command = remote("acknowledged", rate, runner=PYTHON_WITH_DRIVER)
    writer = subprocess.Popen(
        ssh_command(inventory, host, command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert writer.stdin and writer.stdout and writer.stderr
    writer.stdin.write(connection_string(inventory) + "\n")
    writer.stdin.flush()
    if writer.stdout.readline() != "writing\n":
        writer.kill()
        raise AssertionError(f"{host} does not write: {writer.communicate()[1]}")
    try:
        yield result
    finally:
        output, errors = writer.communicate(timeout=120)
        assert writer.returncode == 0, f"{host}: {errors}"
        result.update(json.loads(output))
        print(f"majority writes, {rate}/s: {result}")


def data_equal(inventory: str, seconds: float = 60) -> bool:
    """Whether all members come to hold the same documents of the application, by the servers' own digest."""
    known = parse_uri(connection_string(inventory))
    order = {"user": known["username"], "password": known["password"], "database": known["database"],
             "command": {"dbHash": 1}}  # fmt: skip
    command = remote("database_command", runner=PYTHON_WITH_DRIVER)

    def digests() -> set[str]:
        done = [ssh(inventory, name, command, json.dumps(order)) for name in hosts_of("db", inventory)]
        return {str(json.loads(one.stdout).get("md5")) if one.returncode == 0 else one.stderr for one in done}

    try:
        wait_for(lambda: len(seen := digests()) == 1 and "None" not in seen, seconds, "equal data on all members")
    except AssertionError:
        return False
    return True
