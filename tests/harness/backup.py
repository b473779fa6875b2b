"""The backup of a running fleet: a database of the tests' own, dumps of it, and the repository that holds them."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from phoenix.common import endpoint
from tests.harness import programs
from tests.harness.database import admin_password
from tests.harness.hosts import (
    PYTHON_WITH_DRIVER,
    addresses_of,
    control_of,
    hosts_of,
    remote,
    secrets_of,
    ssh,
    ssh_command,
)

ROOT = "/var/lib/phoenix-backup"
DUMPS = f"{ROOT}/dumps"
RECEIPTS = f"{ROOT}/receipts"
DOCUMENTS = 200_000


class Trial:
    """The members, the repository, and the database `backup_trial`."""

    def __init__(self, inventory: str) -> None:
        self.inventory = inventory
        self.members = hosts_of("db", inventory)
        self.store = self.control = control_of(inventory)
        self.store_name = next(iter(hosts_of("control", inventory)))
        self.password = admin_password(inventory)
        self.addresses = addresses_of("db", inventory)

    def documents(self, *words: str) -> dict[str, Any]:
        """Fill, change, count or drop the database: see remote/documents.py."""
        hosts = ",".join(endpoint.of(address, 27017) for address in self.addresses)
        command = remote("documents", hosts, *words, runner=PYTHON_WITH_DRIVER)
        done = ssh(self.inventory, next(iter(self.members)), command, self.password)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def order(
        self, program: str, dump: str = "newest", collection: str = "", moment: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run programs.BACKUP_PLAN or BACKUP_VERIFY with an order such as playbooks/restore.yml gives."""
        order = {"dump": dump, "collection": collection, "time": moment, "user": "admin", "password": self.password,
                 "members": self.addresses}  # fmt: skip
        return ssh(self.inventory, self.store_name, program, json.dumps(order))

    def dumps(self) -> list[dict[str, str]]:
        """List every dump in the repository, the newest last."""
        listed, _, _ = self.store.check_output(programs.BACKUP_LIST).partition("\n\n")  # before the hosts' files
        rows = [line.split() for line in listed.splitlines()[1:]]
        return [dict(zip(("name", "kind", "member", "state", "documents"), row, strict=False)) for row in rows]

    def manifest(self, name: str) -> dict[str, Any]:
        return dict(json.loads(self.store.check_output(f"cat {DUMPS}/{name}/manifest.json")))

    def lock(self) -> dict[str, Any]:
        """The fleet's lock: whether it is held, and if so by whom and what for."""
        return dict(json.loads(self.control.check_output(f"{programs.LOCK_SHOW} --json")))

    def everywhere(self, unit: str) -> dict[str, int]:
        """Start a dump's unit on all members at once and return their exit codes."""
        with ThreadPoolExecutor() as pool:
            done = {
                name: pool.submit(host.run, f"systemctl start phoenix-backup@{unit}")
                for name, host in self.members.items()
            }
            return {name: future.result().rc for name, future in done.items()}


@contextmanager
def own_store(trial: Trial) -> Iterator[None]:
    """Provide an empty repository while the block runs; afterwards it has exactly its former contents.

    After the trial's larger dumps, tonight's would count as shrunken; after its good ones, others would be deleted.
    """
    trial.store.check_output(remote("store_aside", "away", ROOT))
    try:
        yield
    finally:
        trial.store.check_output(remote("store_aside", "back", ROOT))
        trial.store.run("systemctl restart phoenix-backup-watch")
        # Provoked failures are not failures of the fleet.
        for host in (trial.store, *trial.members.values()):
            host.run("systemctl reset-failed 'phoenix-backup*'")


@contextmanager
def command_lines(trial: Trial, canary: str) -> Iterator[dict[str, dict[str, Any]]]:
    """Sample the command lines on the members and the repository's host while the block runs.

    Afterwards: host -> the result of remote/command_lines.py, with the lines that hold a secret of the inventory as
    "secret", and those with the canary, which must be found, as "canary".
    """
    seen: dict[str, dict[str, Any]] = {}
    secrets = secrets_of(trial.inventory)
    command = remote("command_lines")
    watching = {
        name: subprocess.Popen(
            ssh_command(trial.inventory, name, command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in (*trial.members, trial.store_name)
    }
    try:
        for name, watch in watching.items():
            assert watch.stdin and watch.stdout
            watch.stdin.write(json.dumps([canary, *secrets]) + "\n")
            watch.stdin.flush()
            assert watch.stdout.readline() == "sampling\n", f"{name}: not sampling"
        for host in (*trial.members.values(), trial.store):
            host.check_output(f"sh -c 'sleep 1; true' {shlex.quote(canary)}")
        yield seen
    finally:
        for name, watch in watching.items():
            # Ends with its standard input.
            output, errors = watch.communicate(timeout=60)
            assert watch.returncode == 0, f"{name}: {errors}"
            result = json.loads(output)
            found = result.pop("found")
            canaries = found.pop("0", [])
            seen[name] = {**result, "canary": canaries, "secret": [line for lines in found.values() for line in lines]}
