"""A dump of a fleet that is being written to, its proof, the restore; and failures that must not harm them."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from phoenix.backup import held
from tests.harness import plays, programs
from tests.harness.backup import DOCUMENTS, DUMPS, RECEIPTS, ROOT, Trial, command_lines, own_store
from tests.harness.database import primaries
from tests.harness.hosts import remote
from tests.harness.pair import Pair
from tests.harness.waiting import wait_for

# A dump that no member has made; its name sorts before the others'.
FOREIGN = "20200101T000000Z-db9"


@pytest.fixture(scope="module")
def trial(inventory: str) -> Iterator[Trial]:
    found = Trial(inventory)
    with own_store(found):
        found.documents("drop")
        found.documents("fill", str(DOCUMENTS))
        yield found
        found.documents("drop")


@pytest.fixture(scope="module")
def canary() -> str:
    """A word on a command line of each sampled host, which the search for secrets must find."""
    return secrets.token_hex(16)


@pytest.fixture(scope="module")
def written_to(trial: Trial, canary: str) -> dict[str, Any]:
    """A dump made while documents were written, the writer's result, and the command lines meanwhile."""
    with command_lines(trial, canary) as seen, ThreadPoolExecutor() as pool:
        writing = pool.submit(trial.documents, "write", "900")
        time.sleep(3)
        before = time.time()
        done = plays.run(trial.inventory, "backup")
        after = time.time()
        # Not before: some writes have to come after the dump's moment.
        trial.documents("stop")
        written = writing.result()
    assert done.returncode == 0, done.stdout
    name = trial.dumps()[-1]["name"]
    return {
        "name": name,
        "before": before,
        "after": after,
        "written": written,
        "manifest": trial.manifest(name),
        "command_lines": seen,
    }


def test_a_dump_of_a_fleet_that_is_written_to_is_proven(trial: Trial, written_to: dict[str, Any]) -> None:
    newest, manifest = trial.dumps()[-1], written_to["manifest"]
    assert newest["state"] == "good"
    assert manifest["namespaces"]["backup_trial.items"]["documents"] > DOCUMENTS / 2
    assert [manifest["member"]] != primaries(trial.members), "the primary made it, despite healthy secondaries"
    assert written_to["before"] - 15 <= manifest["moment"][0] <= written_to["after"]
    metrics = trial.store.file("/var/lib/phoenix/metrics/backup.prom").content_string
    assert "phoenix_backup_last_result 0\n" in metrics


def test_a_second_between_dumps_is_restored(trial: Trial, written_to: dict[str, Any]) -> None:
    """One collection, as the writer left it at a second after the dump, by the oplog that a secondary shipped."""
    seconds = max(written_to["manifest"]["moment"][0] + 1, int(written_to["written"]["last_at"]))
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    # A mark has the time of just before its write.
    at_least, at_most = (trial.documents("before", str(end))["marks"] for end in (seconds - 5, seconds))
    wait_for(lambda: trial.order(programs.BACKUP_PLAN, moment=moment).returncode == 0, 60, "the oplog of the writes")
    assert at_least > 0
    trial.documents("drop")
    done = plays.run(
        trial.inventory,
        "restore",
        phoenix_restore_time=moment,
        phoenix_restore_collection="backup_trial.marks",
        phoenix_restore_safety_dump="no",
        phoenix_restore_confirm="yes",
    )
    assert done.returncode == 0, done.stdout
    there = trial.documents("count")
    assert there["last"] == there["marks"] - 1, "each mark up to the last one"
    assert at_least <= there["marks"] <= at_most
    assert trial.order(programs.BACKUP_VERIFY, collection="backup_trial.marks", moment=moment).stdout.strip() == (
        "equal to the manifest"
    )
    assert "; restorable: " in trial.store.check_output(programs.BACKUP_STATUS)


def test_a_moment_that_is_not_there_is_refused(trial: Trial, written_to: dict[str, Any]) -> None:
    before = trial.documents("count")
    for moment, why in (("2036-01-01T00:00:00Z", "is in the future"), ("2020-01-01T00:00:00Z", "before the first")):
        done = trial.order(programs.BACKUP_PLAN, moment=moment)
        assert done.returncode != 0 and why in done.stderr and "what can be restored: " in done.stderr
    assert trial.documents("count") == before


def assert_no_secret(seen: dict[str, dict[str, Any]]) -> None:
    """The command lines were sampled on every host, and none held a secret of the inventory."""
    for name, found in seen.items():
        assert found["canary"], f"{name}: the canary was not found in {found['samples']} samples"
        assert not found["secret"], f"{name}: {found['secret']}"


def test_no_password_is_on_a_command_line(trial: Trial, written_to: dict[str, Any]) -> None:
    seen = written_to["command_lines"]
    assert_no_secret(seen)
    # The programs that were given a password ran while the command lines were sampled.
    assert "mongodump" in seen[written_to["manifest"]["member"]]["programs"]
    assert "mongorestore" in seen[trial.store_name]["programs"], "the proof"
    for host in trial.members.values():
        assert host.file("/etc/phoenix/backup/mongodb.json").mode == 0o600
    unit = next(iter(trial.members.values())).check_output("systemctl cat phoenix-backup@.service")
    assert "User=phoenix-backup" in unit and "LoadCredential=password:" in unit


def test_the_emptied_fleet_is_restored_to_the_dumps_moment(
    trial: Trial, written_to: dict[str, Any], canary: str
) -> None:
    manifest, name = written_to["manifest"], written_to["name"]
    assert trial.documents("drop")["items"] == 0
    with command_lines(trial, canary) as seen:
        done = plays.run(trial.inventory, "restore", phoenix_restore_dump=name, phoenix_restore_confirm="yes")
    assert done.returncode == 0, done.stdout
    assert_no_secret(seen)
    assert "mongorestore" in seen[trial.store_name]["programs"]
    for collection in ("backup_trial.items", "backup_trial.marks"):
        verified = trial.order(programs.BACKUP_VERIFY, name, collection)
        assert verified.stdout.strip() == "equal to the manifest", verified.stdout + verified.stderr
    there = trial.documents("count")
    # Not later than the moment: nothing that the writer added afterwards is here.
    assert there["marks"] == manifest["namespaces"]["backup_trial.marks"]["documents"]
    assert there["last"] < written_to["written"]["last"]
    assert there["last_at"] <= manifest["moment"][0] + 1
    assert trial.dumps()[-1]["kind"] == "safety"


def test_one_collection_is_restored_alone(trial: Trial, written_to: dict[str, Any]) -> None:
    trial.documents("write", "1")
    changed = trial.documents("count")
    done = plays.run(
        trial.inventory,
        "restore",
        phoenix_restore_dump=written_to["name"],
        phoenix_restore_confirm="yes",
        phoenix_restore_collection="backup_trial.items",
    )
    assert done.returncode == 0, done.stdout
    seen = trial.documents("count")
    assert seen["marks"] == changed["marks"]
    assert seen["items"] == written_to["manifest"]["namespaces"]["backup_trial.items"]["documents"]
    # What came after the dump is set aside, listed, and comes back.
    listed = plays.run(trial.inventory, "set-aside").stdout
    stamp = max(re.findall(r"\d{8}T\d{6}Z", listed))
    done = plays.run(trial.inventory, "set-aside", phoenix_set_aside=stamp, phoenix_set_aside_do="put-back")
    assert done.returncode == 0 and "put back backup_trial.items" in done.stdout, done.stdout
    assert trial.documents("count")["items"] == changed["items"]


def test_without_an_answer_nothing_is_restored(trial: Trial, written_to: dict[str, Any]) -> None:
    before = trial.documents("count")
    done = plays.run(trial.inventory, "restore", phoenix_restore_dump=written_to["name"])
    assert done.returncode != 0 and "phoenix_restore_confirm=yes" in done.stdout
    assert trial.documents("count") == before


def break_off(trial: Trial, task: str, number: signal.Signals, **variables: str) -> None:
    """Begin a restore, and end its play by a signal as soon as a task begins."""
    play = plays.start(trial.inventory, "restore", phoenix_restore_confirm="yes", **variables)
    assert play.stdout is not None
    lines = []
    for line in play.stdout:
        lines.append(line)
        if line.startswith(f"TASK [{task}"):
            break
    else:
        raise AssertionError(f"no such task: {''.join(lines)}")
    # Again, as a person would: an interrupt that arrives while Ansible starts a worker may be lost.
    while play.poll() is None:
        os.killpg(play.pid, number)
        with suppress(subprocess.TimeoutExpired):
            play.communicate(timeout=5)
    assert play.returncode != 0


def test_a_restore_that_is_broken_off_leaves_the_data_whole(trial: Trial, written_to: dict[str, Any]) -> None:
    one = {
        "phoenix_restore_dump": written_to["name"],
        "phoenix_restore_collection": "backup_trial.items",
        "phoenix_restore_safety_dump": "yes",  # one collection needs none
    }
    before = trial.documents("drop", "items")
    wanted = written_to["manifest"]["namespaces"]["backup_trial.items"]["documents"]
    assert before["items"] == 0 < wanted
    break_off(trial, "Take the safety dump", signal.SIGINT, **one)
    assert trial.documents("count") == before
    assert trial.lock()["held"] is False, "the lock is taken after the safety dump"
    # Once it is begun it goes on on the store, under its lock.
    break_off(trial, "Wait for it", signal.SIGKILL, **one)
    assert trial.lock()["purpose"] == "restore"
    try:
        wait_for(lambda: trial.documents("count")["items"] == wanted, 120, "the restore's end without its play")
        wait_for(lambda: trial.store.run("pgrep -f 'backup [r]estore'").rc != 0, 120, "its process's end")
        # What is left of the lease, which only falls from here on; the full one would still have most of ten minutes.
        assert trial.lock().get("seconds_left", 0) <= held.LAST_S, "nothing renews it any more"
    finally:
        assert trial.control.run(programs.LOCK_BREAK).rc == 0
    assert trial.documents("count")["marks"] == before["marks"]
    verified = trial.order(programs.BACKUP_VERIFY, written_to["name"], "backup_trial.items")
    assert verified.stdout.strip() == "equal to the manifest", verified.stdout + verified.stderr


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        ("printf x | dd of=$d/dump.archive.gz bs=1 seek=1000 conv=notrunc", "damaged"),
        ("truncate -s -100 $d/dump.archive.gz", "damaged"),
        ('sed -i \'s/"fleet": "[^"]*"/"fleet": "other"/\' $d/manifest.json', "of another fleet"),
        ("rm $d/proof.json", "not proven"),
    ],
)
def test_a_damaged_or_foreign_dump_is_refused(trial: Trial, written_to: dict[str, Any], harm: str, why: str) -> None:
    prepare = f"d={DUMPS}/{FOREIGN}; rm -rf $d && cp -a {DUMPS}/{written_to['name']} $d && {harm}"
    assert trial.store.run(prepare).rc == 0
    before = trial.documents("count")
    try:
        done = plays.run(trial.inventory, "restore", phoenix_restore_dump=FOREIGN, phoenix_restore_confirm="yes")
        assert done.returncode != 0 and why in done.stdout, done.stdout
        assert trial.documents("count") == before
    finally:
        trial.store.run(f"rm -rf {DUMPS}/{FOREIGN}")


def test_a_killed_run_is_taken_over_and_leaves_nothing_partial(trial: Trial) -> None:
    """mongodump dies halfway on the member that runs it first: another member makes the dump."""
    loop = "for i in $(seq 1500); do kill -9 $(pidof mongodump) 2>/dev/null && exit; sleep 0.02; done"
    killer = f"systemd-run --collect --quiet sh -c '{loop}'"
    primary = primaries(trial.members)
    victim = next(name for name in trial.members if name not in primary)
    assert trial.members[victim].run(killer).rc == 0
    with ThreadPoolExecutor() as pool:
        first = pool.submit(trial.members[victim].run, "systemctl start phoenix-backup@manual-killed")
        time.sleep(0.5)
        codes = trial.everywhere("manual-killed")
        assert first.result().rc != 0
    made = [dump for dump in trial.dumps() if dump["kind"] == "manual"][-2:]
    assert [dump["state"] for dump in made] == ["failed", "good"], made
    assert any(code == 0 for code in codes.values())
    assert trial.store.check_output(f"ls {ROOT}/incoming") == ""
    for host in trial.members.values():
        host.run("systemctl stop phoenix-backup@manual-killed; systemctl reset-failed phoenix-backup@manual-killed")


def test_a_key_can_only_add(trial: Trial) -> None:
    host = next(iter(trial.members.values()))
    address = json.loads(host.check_output("cat /etc/phoenix/backup/sender.json"))["store"]
    options = "-i /etc/phoenix/backup/id_ed25519 -o UserKnownHostsFile=/etc/phoenix/backup/known_hosts -o BatchMode=yes"
    for command in ("", "id", f"rm -rf {DUMPS}", "internal-sftp", "await ../x"):
        done = host.run(f"ssh {options} phoenix-backup@{address} '{command}' </dev/null; echo code=$?")
        assert "code=0" not in done.stdout and "uid=" not in done.stdout
    # Neither a file by another protocol, nor a tunnel.
    target = f"phoenix-backup@{address}"
    for command in (
        f"scp {options} /etc/hostname {target}:{DUMPS}/x",
        f"timeout 5 ssh {options} -N -o ExitOnForwardFailure=yes -R 9099:127.0.0.1:9 {target}",
    ):
        assert "code=0" not in host.run(f"{command}; echo code=$?").stdout
    assert not trial.store.file(f"{DUMPS}/x").exists


def test_rotated_logs_reach_the_store_without_a_lost_line(trial: Trial, base_url: str, client: Any) -> None:
    balancers = Pair(trial.inventory, base_url)
    (name,) = balancers.holders()
    host = balancers.hosts[name]
    with ThreadPoolExecutor() as pool:
        asking = pool.submit(client.run, remote("numbered_requests", f"{base_url}/backup-line-"))
        time.sleep(1.5)
        assert host.run("logrotate --force /etc/logrotate.d/nginx").rc == 0
        done = asking.result()
    assert done.rc == 0, done.stderr
    time.sleep(6)
    assert host.run("systemctl start phoenix-backup-logs").rc == 0
    kept = f"{ROOT}/logs/{name}"
    lines = "grep -ho 'backup-line-[0-9]*' | sort -u"
    there = trial.store.check_output(f"zcat -f {kept}/access.log-* | {lines}")
    here = host.check_output("grep -ho 'backup-line-[0-9]*' /var/log/nginx/access.log | sort -u")
    assert len({*there.split(), *here.split()}) == 300
    assert there, "nothing of the rotated file is in the store"


def test_a_servers_log_that_exceeds_its_limit_is_rotated_within_the_day_and_kept(trial: Trial) -> None:
    name, host = next(iter(trial.members.items()))
    folder, log = "/var/log/mongodb", "/var/log/mongodb/mongod.log"
    assert "OnCalendar=*-*-* *:00:00" in host.check_output("systemctl show -p TimersCalendar logrotate.timer")
    listing = f"ls {folder} | grep 'log-[0-9-]*$' || true"
    before = set(host.check_output(listing).split())
    host.check_output(f"yes beyond-its-limit | head -c 101M >>{log}")
    host.check_output("systemctl start logrotate.service")
    (rotated,) = set(host.check_output(listing).split()) - before
    try:
        wait_for(lambda: host.file(log).exists, 10, "the new log")
        time.sleep(6)  # a file that was written to a moment ago is left for the next time
        host.check_output("systemctl start phoenix-backup-logs")
        here = host.check_output(f"zcat -f {folder}/{rotated}* | sha256sum")
        assert trial.store.check_output(f"zcat -f {ROOT}/logs/{name}/{rotated}* | sha256sum") == here
    finally:
        host.check_output(f"rm {folder}/{rotated}*")


def test_a_shrunken_backup_fails_a_unit(trial: Trial, written_to: dict[str, Any]) -> None:
    """The next dump is less than half of the one before."""
    trial.store.check_output(remote("larger_dump", DUMPS, written_to["name"], FOREIGN))
    try:
        codes = trial.everywhere(f"manual-shrunken{int(time.time())}")
        assert any(codes.values()), trial.dumps()
        newest = trial.dumps()[-1]
        assert newest["state"] == "shrunken", newest
        time.sleep(2)
        assert trial.store.run("systemctl is-failed phoenix-backup-watch").rc == 0
        metrics = trial.store.file("/var/lib/phoenix/metrics/backup.prom").content_string
        assert "phoenix_backup_last_result 3\n" in metrics
        assert "shrunken" in plays.run(trial.inventory, "status").stdout
        assert trial.store.run(f"{programs.BACKUP_ACCEPT} {newest['name']}").rc == 0
        time.sleep(2)
        assert trial.store.run("systemctl is-failed phoenix-backup-watch").rc != 0
    finally:
        trial.store.run(f"rm -r {DUMPS}/{FOREIGN} {RECEIPTS}/{FOREIGN}.json")
        for host in trial.members.values():
            host.run("systemctl reset-failed 'phoenix-backup@*'")
