"""Control, the database, or the whole fleet with its store is lost, and recovered with playbooks/recover.yml.

`make lost`, not `make test`: hosts are removed with all that they hold, and made again, empty. PHOENIX_LOST says whose.
The client stays, which has the storage off-site, and so do the operator's own secrets.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping, Set
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import docker
import pytest

from lab import containers, fleet
from tests.harness import plays, programs
from tests.harness.autoscaling import consistent
from tests.harness.backup import Trial
from tests.harness.database import answer, ask, one_primary
from tests.harness.deploys import play, succeed
from tests.harness.hosts import hosts_of
from tests.harness.load import assert_none_failed, load, send
from tests.harness.waiting import wait_for

LOST = os.environ.get("PHOENIX_LOST", "").split(",")
DOCUMENTS, WRITING = "20000", "5"
# What an operator keeps outside of the fleet.
OWN = {"backup-offsite", "offsite-ssh", "offsite-ssh.pub"}
RECORD = ("release", "capacity", "configuration")
# What only a copy brings back, by the group that has it: the certificate; the key with which control deploys, the
# releases to which it may return, and what the pipeline's repository has, where there is one.
REPOSITORY = "/var/lib/phoenix-ci/application.git"
CARRIED = {
    "lb": "sha256sum /etc/nginx/tls/*",
    "control": "sha256sum /var/lib/phoenix-runner/.ssh/id_* && "
    "find /var/lib/phoenix/releases -type f -name '*.tar.gz' -exec sha256sum {} + | sort && "
    f"if [ -d {REPOSITORY} ]; then git -c safe.directory='*' -C {REPOSITORY} for-each-ref; fi",
}


def left_out(what: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(what not in LOST, reason=f"PHOENIX_LOST does not name {what}")


def secrets(inventory: str) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in Path(inventory, ".secrets").iterdir() if one.suffix != ".lock"}


def digest(trial: Trial) -> str:
    """The trial's documents, by the server's own digest of a secondary or primary alike."""
    command = {"dbHash": 1, "collections": ["items", "marks"]}
    seen = answer(
        trial.inventory, one_primary(trial.members), command, "backup_trial", user="admin", password=trial.password
    )
    return str(seen["md5"])


def record(control: Any) -> dict[str, Any]:
    shown = json.loads(control.check_output(programs.STATE_SHOW))
    return {name: shown[name] for name in RECORD}


def carried(inventory: str) -> dict[str, str]:
    """What each host has of it, by its checksums."""
    return {
        f"{group} {name}": host.check_output(command)
        for group, command in CARRIED.items()
        for name, host in hosts_of(group, inventory).items()
    }


def copy(inventory: str, trial: Trial) -> None:
    """Send what the hosts seal to the store, and all of it off-site."""
    for group in CARRIED:
        for host in hosts_of(group, inventory).values():
            host.check_output("systemctl start phoenix-backup-state")
    # Twice: the first may join a copy that the timer began before all was there.
    trial.store.check_output("systemctl start phoenix-backup-offsite && systemctl start phoenix-backup-offsite")


def lose(inventory: str, hosts: Set[str]) -> float:
    """Remove hosts with all that they hold, and make them again, empty; returns how long that took."""
    began = time.monotonic()
    engine = docker.from_env()
    ours = fleet.read(Path(inventory))
    for one in ours.hosts:
        if one.name in hosts:
            engine.containers.get(one.container).remove(force=True, v=True)
    containers.up(engine, ours, Path(inventory).parents[1] / ".lab", plays.TOP / ".cache", print)
    return time.monotonic() - began


def recover(inventory: str, what: str) -> dict[str, float]:
    """Run recover.yml; returns the seconds of each of its plays, those of the same name together."""
    running = plays.start(inventory, "recover", phoenix_recover=what, phoenix_recover_confirm=True)
    assert running.stdout
    began, name = time.monotonic(), "beginning"
    taken, lines = dict[str, float](), list[str]()
    for line in running.stdout:
        lines.append(line)
        if found := re.match(r"PLAY (?:\[(.*)\]|RECAP)", line):
            now = time.monotonic()
            taken[name] = taken.get(name, 0.0) + now - began
            began, name = now, found[1] or "end"
    assert running.wait() == 0, "".join(lines[-80:])
    return taken


def elect(trial: Trial, times: int = 3) -> None:
    """Have the members elect another primary, so that the lost set's elections count further than a new one's."""
    for _ in range(times):
        former = one_primary(trial.members)
        ask(trial.inventory, former, {"replSetStepDown": 10, "force": True}, user="admin", password=trial.password)
        one_primary(trial.members)


def report(what: str, made: float, taken: Mapping[str, float]) -> None:
    rows = [f"{what} is back after {sum(taken.values()):.0f} s; the empty hosts were made in {made:.0f} s"]
    rows += [f"{seconds:6.1f} s  {name}" for name, seconds in taken.items() if seconds >= 1]
    print("\n".join(rows))


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=left_out(what)) for what in ("control", "database", "fleet")]
)
def test_what_is_lost_is_back_with_its_data(what: str, client: Any, base_url: str, inventory: str) -> None:
    """The database to its last second, and what runs on is served by meanwhile."""
    trial = Trial(inventory)
    group = {"control": "control", "database": "db", "fleet": "all"}[what]
    lost = hosts_of(group, inventory).keys() - hosts_of("client", inventory).keys()
    with ExitStack() as clean:
        clean.callback(forget, trial)
        # The autoscaler comes back with control, and at this capacity finds nothing to do.
        succeed(play(inventory, "scale", phoenix_capacity=2, scale_lock_wait=60))
        elect(trial)
        trial.documents("fill", DOCUMENTS)
        trial.everywhere(f"manual-lost{int(time.time())}")
        assert trial.dumps()[-1]["state"] == "good", trial.dumps()[-1]
        written = trial.documents("write", WRITING)
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(written["last_at"] + 1))
        wait_for(
            lambda: trial.order(programs.BACKUP_PLAN, moment=moment).returncode == 0, 60, "the oplog of the writes"
        )
        copy(inventory, trial)
        before = (written, digest(trial), record(trial.store), carried(inventory), secrets(inventory))
        with ExitStack() as serving:
            got = serving.enter_context(load(client, base_url, 5)) if what == "control" else None
            if what == "fleet":
                for name in secrets(inventory).keys() - OWN:
                    Path(inventory, ".secrets", name).unlink()
            made = lose(inventory, lost)
            if what == "control":
                # As its timer does meanwhile: a unit that failed and is no failure of the fleet afterwards.
                other = hosts_of("lb", inventory)["lb1"]
                assert other.run("systemctl start phoenix-backup-state").rc != 0
            taken = recover(inventory, what)
        report(what, made, taken)
        if got is not None:
            assert_none_failed(got)
        after = (trial.documents("count"), digest(trial), record(trial.store), carried(inventory), secrets(inventory))
        assert after == before
        wait_for(lambda: consistent(inventory), 60, "the instances, as recorded")
        assert_none_failed(send(client, f"{base_url}/", 5, 5))


def forget(trial: Trial) -> None:
    """Drop the trial; the next dump is smaller for it, as it should be."""
    trial.documents("drop")
    trial.everywhere(f"manual-lost{int(time.time())}")
    newest = trial.dumps()[-1]
    if newest["state"] == "shrunken":
        trial.store.check_output(f"{programs.BACKUP_ACCEPT} {newest['name']}")
    for host in trial.members.values():
        host.run("systemctl reset-failed 'phoenix-backup@*'")
