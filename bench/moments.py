"""Ten random seconds restored under writes, and compared with what the writer knew, after faults of the whole chain."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pymongo.uri_parser import parse_uri

from bench.fleet import Fleet, Row
from tests.harness import programs
from tests.harness.backup import ROOT, Trial, own_store
from tests.harness.database import another_is_primary, connection_string, kept_down, one_primary, whole
from tests.harness.deploys import play, succeed
from tests.harness.hosts import PYTHON_WITH_DRIVER, output_of, remote, ssh
from tests.harness.machines import machines, stopped
from tests.harness.waiting import wait_for
from tests.harness.writes import writes

COLLECTION = "moments_known"
KEPT = ("--collection", COLLECTION)
CALM_S = 10  # between two faults
SMALL = "/run/phoenix-test-store"
# A small file system in the place of the store: less is free than the store keeps for others.
SHRINK = f"""set -e
mkdir -p {SMALL}
mount -t tmpfs -o size=$(( $(du -sm {ROOT} | cut -f1) + 16 ))m tmpfs {SMALL}
cp -a {ROOT}/. {SMALL}/
mount --bind {SMALL} {ROOT}"""
GROW = f"""set -e
mountpoint -q {SMALL} || exit 0
if mountpoint -q {ROOT}; then umount {ROOT}; cp -a {SMALL}/. {ROOT}/; fi
umount {SMALL}
rmdir {SMALL}"""


def measure(fleet: Fleet) -> list[Row]:
    trial = Trial(fleet.inventory)
    seed = int(time.time())
    with own_store(trial):
        try:
            with writes(fleet.inventory, next(iter(trial.members)), "--known", *KEPT) as writer:
                succeed(play(fleet.inventory, "backup"))
                begun = int(time.time()) + 1
                notes = faults(trial)
                ended = int(time.time())
                taken = shipped(trial, ended)
                moments = sorted(random.Random(seed).sample(range(begun, ended), 10))
                there = {moment: restored(fleet, trial, moment) for moment in moments}
                status = trial.store.check_output(programs.BACKUP_STATUS).partition("; ")[2]
        finally:
            documents(trial, "drop")
    known = writer["known"]
    equal = [moment for moment in moments if agrees(known, there[moment], moment, ended)]
    answered = sum(acknowledged is not None for _, acknowledged in known)
    return [
        *notes,
        Row("the last second was in the store after", round(taken, 1), "s", None, status),
        Row(
            "random seconds that equal what the writer knew",
            len(equal),
            f"of {len(moments)}",
            len(moments),
            f"seed {seed}, within {ended - begun} s; {answered} of {len(known)} writes acknowledged",
        ),
    ]


def faults(trial: Trial) -> list[Row]:
    """The primary is killed, then the member that ships, then the store is full, then its host is shut down."""
    rows = []
    time.sleep(CALM_S)
    primary = one_primary(trial.members)
    with kept_down(trial.members[primary]):
        rows.append(Row("primary killed: another one after", round(another_is_primary(trial.members, primary), 1), "s"))
        time.sleep(CALM_S)
    wait_for(lambda: whole(trial.members), 120, "the former primary follows")
    wait_for(lambda: len(shipping(trial)) == 1, 120, "one member ships")
    (shipper,) = shipping(trial)
    with kept_down(trial.members[shipper]), unit_down(trial, shipper):
        taken = wait_for(lambda: bool(shipping(trial)) and shipping(trial) != [shipper], 120, "another one ships")
        rows.append(Row("shipping member killed: another one ships after", round(taken, 1), "s", None, shipper))
        time.sleep(CALM_S)
    wait_for(lambda: whole(trial.members), 120, "the former shipper follows")
    trial.store.check_output(SHRINK)
    try:
        time.sleep(2 * CALM_S)
        behind = re.search(r"the oplog is (\d+) s behind", trial.store.run(programs.BACKUP_STATUS).stdout)
        rows.append(
            Row(f"store full for {2 * CALM_S} s: its oplog is behind by", float(behind[1] if behind else -1), "s")
        )
    finally:
        trial.store.check_output(GROW)
    time.sleep(CALM_S)
    began = time.monotonic()
    with stopped(machines()[trial.store_name], trial.store):
        time.sleep(CALM_S)
    rows.append(Row("store's host shut down and back", round(time.monotonic() - began, 1), "s"))
    time.sleep(CALM_S)
    return rows


def shipping(trial: Trial) -> list[str]:
    """The members that have the task, by what their unit shows."""
    show = "systemctl show --property=StatusText --value phoenix-oplog"
    return [name for name, host in trial.members.items() if output_of(host, show).startswith("shipped up to")]


@contextmanager
def unit_down(trial: Trial, name: str) -> Iterator[None]:
    host = trial.members[name]
    host.check_output("systemctl kill --signal=KILL phoenix-oplog; systemctl stop phoenix-oplog")
    try:
        yield
    finally:
        host.check_output("systemctl start phoenix-oplog")


def shipped(trial: Trial, second: int) -> float:
    """Wait until this second can be restored, and return how long that took."""
    moment = written(second)
    return wait_for(lambda: trial.order(programs.BACKUP_PLAN, moment=moment).returncode == 0, 180, f"{moment} there")


def written(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))


def documents(trial: Trial, verb: str) -> list[int]:
    """Read the numbers that are there, or drop the collection."""
    host = next(iter(trial.members))
    command = remote("acknowledged", verb, *KEPT, runner=PYTHON_WITH_DRIVER)
    done = ssh(trial.inventory, host, command, connection_string(trial.inventory) + "\n")
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout or "[]"))


def restored(fleet: Fleet, trial: Trial, moment: int) -> set[int]:
    """Bring the collection to the beginning of this second, while it is written to, and return the numbers in it."""
    began = time.monotonic()
    database = parse_uri(connection_string(trial.inventory))["database"]
    succeed(
        play(
            fleet.inventory,
            "restore",
            phoenix_restore_time=written(moment),
            phoenix_restore_collection=f"{database}.{COLLECTION}",
            phoenix_restore_safety_dump="no",
            phoenix_restore_confirm="yes",
        )
    )
    numbers = set(documents(trial, "read"))
    print(f"{written(moment)}: {time.monotonic() - began:.0f} s, {len(numbers)} documents", flush=True)
    return numbers


def agrees(known: Sequence[tuple[float, float | None]], there: set[int], moment: int, ended: int) -> bool:
    """Whether every number is there that was acknowledged before the moment, and none that was sent after it.

    Numbers that were sent after `ended` are those that were written while it was restored.
    """
    for number, (sent, acknowledged) in enumerate(known):
        if sent >= ended:
            continue
        if acknowledged is not None and acknowledged < moment and number not in there:
            print(f"{written(moment)}: {number}, acknowledged at {acknowledged:.3f}, is not there", flush=True)
            return False
        if sent >= moment and number in there:
            print(f"{written(moment)}: {number}, sent at {sent:.3f}, is there", flush=True)
            return False
    return True
