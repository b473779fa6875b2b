"""Majority writes under which something happens to the fleet, and whether all members hold the same data afterwards."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pymongo.uri_parser import parse_uri

from tests.harness.database import ask, connection_string
from tests.harness.hosts import PYTHON_WITH_DRIVER, hosts_of, output_of, remote, ssh, ssh_command
from tests.harness.load import summary
from tests.harness.remote.by_tls import CAS
from tests.harness.waiting import wait_for

RATE = 20  # majority writes a second


@contextmanager
def writes(
    inventory: str,
    host: str,
    *options: str,
    rate: float = RATE,
    runner: str = PYTHON_WITH_DRIVER,
    rotated: bool = False,
) -> Iterator[dict[str, Any]]:
    """Write from this host while the block runs; afterwards the dictionary holds what remote/acknowledged.py found.

    `options` are those of the program. An interrupt of this process does not reach it. rotated: the password is
    replaced meanwhile.
    """
    result: dict[str, Any] = {}
    command = remote("acknowledged", rate, *options, runner=runner)
    writer = subprocess.Popen(
        ssh_command(inventory, host, command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
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
        latest = f"{connection_string(inventory)}\n" if rotated else ""
        output, errors = writer.communicate(latest, timeout=120)
        assert writer.returncode == 0, f"{host}: {errors}"
        result.update(json.loads(output))
        print(f"majority writes, {rate}/s: {summary(result)}")


@contextmanager
def borrowed_driver(inventory: str, host: str) -> Iterator[str]:
    """Give a host that has no driver a copy of a database host's while the block runs; yields a runner that uses it.

    It also gets the CAs that the database's clients trust, where there are any and it has none.
    """
    folder = "/run/phoenix-test-driver"
    lender = next(iter(hosts_of("db", inventory)))
    packed = subprocess.run(
        ssh_command(inventory, lender, "tar -C /opt/pymongo/current -c ."), capture_output=True, check=True
    ).stdout
    unpack = f"mkdir -p {folder} && tar -C {folder} -x"
    trusted = output_of(hosts_of("db", inventory)[lender], f"cat {CAS} 2>/dev/null || true")
    give = f"[ -e {CAS} ] || {{ mkdir -p {Path(CAS).parent} && cat > {CAS} && touch {folder}/given; }}"
    try:
        subprocess.run(ssh_command(inventory, host, unpack), input=packed, capture_output=True, check=True)
        if trusted:
            ssh(inventory, host, give, f"{trusted}\n")
        yield f"PYTHONPATH={folder} python3"
    finally:
        ssh(inventory, host, f"if [ -e {folder}/given ]; then rm {CAS}; fi; rm -rf {folder}", "")


def data_equal(inventory: str, seconds: float = 60) -> bool:
    """Whether all members come to hold the same documents of the application, by the servers' own digest."""
    # Without the options: the driver would read the CAs that they name, which are on the hosts.
    known = parse_uri(connection_string(inventory).partition("?")[0])
    login = {"user": known["username"], "password": known["password"]}

    def digests() -> set[str]:
        # All at once: a digest of many documents takes seconds, and what asks for the site's health writes as well.
        with ThreadPoolExecutor() as pool:
            names = list(hosts_of("db", inventory))
            done = list(pool.map(lambda name: ask(inventory, name, {"dbHash": 1}, known["database"], **login), names))
        return {str(json.loads(one.stdout).get("md5")) if one.returncode == 0 else one.stderr for one in done}

    try:
        wait_for(lambda: len(seen := digests()) == 1 and "None" not in seen, seconds, "equal data on all members")
    except AssertionError:
        return False
    return True
