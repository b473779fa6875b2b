"""A dump of a fleet that is being written to, its proof, the restore; and what must not harm them."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import plays
from tests.e2e.support import hosts_of, primaries, ssh

DOCUMENTS = 200_000
# Requests of a name each, for three seconds.
ASK = """
import http.client, ssl, sys, time
scheme, _, host, path = sys.argv[1].split("/", 3)
plain = scheme == "http:"
context = None if plain else ssl._create_unverified_context()
for number in range(300):
    connect = http.client.HTTPConnection(host) if plain else http.client.HTTPSConnection(host, context=context)
    connect.request("GET", f"/{path}{number}")
    connect.getresponse().read()
    connect.close()
    time.sleep(0.01)
"""
PROGRAM = Path(__file__).with_name("documents.py")


class Trial:
    """The fleet as these tests use it."""

    def __init__(self, inventory: str) -> None:
        self.inventory = inventory
        self.members = hosts_of("db", inventory)
        self.store = next(iter(hosts_of("control", inventory).values()))
        self.password = (Path(inventory) / ".secrets" / "mongodb-admin").read_text().strip()
        self.addresses = [host.check_output("hostname -I").split()[0] for host in self.members.values()]

    def documents(self, *words: str) -> dict[str, Any]:
        name = next(iter(self.members))
        assert (
            ssh(self.inventory, name, "sudo tee /var/tmp/documents.py >/dev/null", PROGRAM.read_text()).returncode == 0
        )
        hosts = ",".join(f"{address}:27017" for address in self.addresses)
        command = f"PYTHONPATH=/opt/pymongo/current python3 /var/tmp/documents.py {hosts} {' '.join(words)}"
        done = ssh(self.inventory, name, command, self.password)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def play(self, name: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return plays.run(self.inventory, name, **variables)

    def order(self, verb: str, dump: str = "newest", collection: str = "") -> subprocess.CompletedProcess[str]:
        """plan or verify, as playbooks/restore.yml asks for them."""
        order = {"dump": dump, "collection": collection, "user": "admin", "password": self.password,
                 "members": self.addresses}  # fmt: skip
        name = next(iter(hosts_of("control", self.inventory)))
        return ssh(self.inventory, name, f"sudo phoenix-backup {verb}", json.dumps(order))

    def dumps(self) -> list[dict[str, str]]:
        rows = [line.split() for line in self.store.check_output("phoenix-backup list").splitlines()[1:]]
        return [dict(zip(("name", "kind", "member", "state", "documents"), row, strict=False)) for row in rows]

    def manifest(self, name: str) -> dict[str, Any]:
        return dict(json.loads(self.store.check_output(f"cat /var/lib/phoenix-backup/dumps/{name}/manifest.json")))

    def everywhere(self, unit: str) -> dict[str, int]:
        """Start a dump's unit on all members at once; their exit codes."""
        with ThreadPoolExecutor() as pool:
            done = {
                name: pool.submit(host.run, f"systemctl start phoenix-backup@{unit}")
                for name, host in self.members.items()
            }
            return {name: one.result().rc for name, one in done.items()}


@pytest.fixture(scope="module")
def trial(inventory: str) -> Iterator[Trial]:
    found = Trial(inventory)
    found.documents("drop")
    found.documents("fill", str(DOCUMENTS))
    yield found
    found.documents("drop")
    # The trial's dumps are larger than what is left: without this, tonight's would count as shrunken.
    found.store.run("rm -rf /var/lib/phoenix-backup/dumps/* /var/lib/phoenix-backup/failures/*")
    found.store.run("systemctl restart phoenix-backup-watch")
    # Failures that were provoked are no failures of the fleet.
    for host in (found.store, *found.members.values()):
        host.run("systemctl reset-failed 'phoenix-backup*'")


@pytest.fixture(scope="module")
def written_to(trial: Trial) -> dict[str, Any]:
    """A dump that was made while documents were written, and what the writer did."""
    with ThreadPoolExecutor() as pool:
        writing = pool.submit(trial.documents, "write", "14")
        time.sleep(3)
        before = time.time()
        done = trial.play("backup")
        after = time.time()
        written = writing.result()
    assert done.returncode == 0, done.stdout
    name = trial.dumps()[-1]["name"]
    return {"name": name, "before": before, "after": after, "written": written, "manifest": trial.manifest(name)}


def test_a_dump_of_a_fleet_that_is_written_to_is_proven(trial: Trial, written_to: dict[str, Any]) -> None:
    newest, manifest = trial.dumps()[-1], written_to["manifest"]
    assert newest["state"] == "good"
    assert manifest["namespaces"]["backup_trial.items"]["documents"] > DOCUMENTS / 2
    assert [manifest["member"]] != primaries(trial.members), "the primary made it, beside healthy secondaries"
    assert written_to["before"] - 15 <= manifest["moment"][0] <= written_to["after"]
    metrics = trial.store.file("/var/lib/phoenix/metrics/backup.prom").content_string
    assert "phoenix_backup_last_result 0\n" in metrics


def test_no_password_is_on_a_command_line(trial: Trial, written_to: dict[str, Any]) -> None:
    for host in trial.members.values():
        assert "--password" not in host.check_output("journalctl -u 'phoenix-backup@*' --no-pager")
        assert host.file("/etc/phoenix/backup/mongodb.json").mode == 0o600
    unit = next(iter(trial.members.values())).check_output("systemctl cat phoenix-backup@.service")
    assert "User=phoenix-backup" in unit and "LoadCredential=password:" in unit


def test_the_emptied_fleet_is_restored_to_the_dumps_moment(trial: Trial, written_to: dict[str, Any]) -> None:
    manifest, name = written_to["manifest"], written_to["name"]
    assert trial.documents("drop")["items"] == 0
    done = trial.play("restore", phoenix_restore_dump=name, phoenix_restore_confirm="yes")
    assert done.returncode == 0, done.stdout
    for collection in ("backup_trial.items", "backup_trial.marks"):
        verified = trial.order("verify", name, collection)
        assert verified.stdout.strip() == "equal to the manifest", verified.stdout + verified.stderr
    seen = trial.documents("look")
    # Not later than the moment: the writer had gone on, and none of that is here.
    assert seen["marks"] == manifest["namespaces"]["backup_trial.marks"]["documents"]
    assert seen["last"] < written_to["written"]["last"]
    assert seen["last_at"] <= manifest["moment"][0] + 1
    assert trial.dumps()[-1]["kind"] == "safety"


def test_one_collection_is_restored_alone(trial: Trial, written_to: dict[str, Any]) -> None:
    trial.documents("write", "1")
    changed = trial.documents("look")
    done = trial.play("restore", phoenix_restore_dump=written_to["name"], phoenix_restore_confirm="yes",
                      phoenix_restore_collection="backup_trial.items")  # fmt: skip
    assert done.returncode == 0, done.stdout
    seen = trial.documents("look")
    assert seen["marks"] == changed["marks"]
    assert seen["items"] == written_to["manifest"]["namespaces"]["backup_trial.items"]["documents"]


def test_without_an_answer_nothing_is_restored(trial: Trial, written_to: dict[str, Any]) -> None:
    before = trial.documents("look")
    done = trial.play("restore", phoenix_restore_dump=written_to["name"])
    assert done.returncode != 0 and "phoenix_restore_confirm=yes" in done.stdout
    assert trial.documents("look") == before


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        ("printf x | dd of=$d/dump.archive.gz bs=1 seek=1000 conv=notrunc", "damaged"),
        ("truncate -s -100 $d/dump.archive.gz", "damaged"),
        ('sed -i \'s/"fleet": "[^"]*"/"fleet": "other"/\' $d/manifest.json', "of another fleet"),
        ("rm $d/proof.json", "not proven"),
    ],
)
def test_what_is_damaged_or_foreign_is_refused(trial: Trial, written_to: dict[str, Any], harm: str, why: str) -> None:
    store = "/var/lib/phoenix-backup/dumps"
    name = "20200101T000000Z-db9"
    prepare = f"d={store}/{name}; rm -rf $d && cp -a {store}/{written_to['name']} $d && {harm}"
    assert trial.store.run(prepare).rc == 0
    before = trial.documents("look")
    try:
        done = trial.play("restore", phoenix_restore_dump=name, phoenix_restore_confirm="yes")
        assert done.returncode != 0 and why in done.stdout, done.stdout
        assert trial.documents("look") == before
    finally:
        trial.store.run(f"rm -rf {store}/{name}")


def test_a_killed_run_is_taken_over_and_leaves_nothing_half(trial: Trial) -> None:
    """mongodump dies in the middle on whoever runs it first: another member makes the dump."""
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
    made = [one for one in trial.dumps() if one["kind"] == "manual"][-2:]
    assert [one["state"] for one in made] == ["failed", "good"], made
    assert any(code == 0 for code in codes.values())
    assert trial.store.check_output("ls /var/lib/phoenix-backup/incoming") == ""
    for host in trial.members.values():
        host.run("systemctl stop phoenix-backup@manual-killed; systemctl reset-failed phoenix-backup@manual-killed")


def test_a_key_can_only_add(trial: Trial) -> None:
    host = next(iter(trial.members.values()))
    address = json.loads(host.check_output("cat /etc/phoenix/backup/sender.json"))["store"]
    options = "-i /etc/phoenix/backup/id_ed25519 -o UserKnownHostsFile=/etc/phoenix/backup/known_hosts -o BatchMode=yes"
    for command in ("", "id", "rm -rf /var/lib/phoenix-backup/dumps", "internal-sftp", "await ../x"):
        done = host.run(f"ssh {options} phoenix-backup@{address} '{command}' </dev/null; echo code=$?")
        assert "code=0" not in done.stdout and "uid=" not in done.stdout
    # Neither a file by another way, nor a tunnel.
    target = f"phoenix-backup@{address}"
    for command in (
        f"scp {options} /etc/hostname {target}:/var/lib/phoenix-backup/dumps/x",
        f"timeout 5 ssh {options} -N -o ExitOnForwardFailure=yes -R 9099:127.0.0.1:9 {target}",
    ):
        assert "code=0" not in host.run(f"{command}; echo code=$?").stdout
    assert not trial.store.file("/var/lib/phoenix-backup/dumps/x").exists


def test_rotated_logs_reach_the_store_without_a_lost_line(trial: Trial, base_url: str) -> None:
    name, host = next(iter(hosts_of("lb", trial.inventory).items()))
    client = next(iter(hosts_of("client", trial.inventory)))
    script = f"cat >/var/tmp/ask.py && python3 /var/tmp/ask.py {base_url}/backup-line-"
    with ThreadPoolExecutor() as pool:
        asking = pool.submit(ssh, trial.inventory, client, script, ASK)
        time.sleep(1.5)
        assert host.run("logrotate --force /etc/logrotate.d/nginx").rc == 0
        done = asking.result()
    assert done.returncode == 0, done.stderr
    time.sleep(6)
    assert host.run("systemctl start phoenix-backup-logs").rc == 0
    kept = f"/var/lib/phoenix-backup/logs/{name}"
    lines = "grep -ho 'backup-line-[0-9]*' | sort -u"
    there = trial.store.check_output(f"zcat -f {kept}/access.log-* | {lines}")
    here = host.check_output("grep -ho 'backup-line-[0-9]*' /var/log/nginx/access.log | sort -u")
    assert len({*there.split(), *here.split()}) == 300
    assert there, "nothing of the rotated file is in the store"


# Gives the store a good dump of three times as much, as far as its manifest goes.
LARGER = """
import json, pathlib, shutil, sys
store = pathlib.Path("/var/lib/phoenix-backup/dumps")
larger = shutil.copytree(store / sys.argv[1], store / "20200101T000000Z-db9")
manifest = json.loads((larger / "manifest.json").read_text())
for one in manifest["namespaces"].values():
    one.update({name: 3 * (one[name] or 0) for name in ("documents", "bytes")})
(larger / "manifest.json").write_text(json.dumps(manifest))
receipts = store.parent / "receipts"
receipt = json.loads((receipts / f"{sys.argv[1]}.json").read_text())
(receipts / f"{larger.name}.json").write_text(json.dumps({**receipt, "number": receipt["number"] + 1000}))
"""


def test_a_shrunken_backup_fails_a_unit(trial: Trial) -> None:
    """The next dump is less than half of the one before."""
    good = [one["name"] for one in trial.dumps() if one["state"] == "good"][-1]
    name = next(iter(hosts_of("control", trial.inventory)))
    made = ssh(trial.inventory, name, f"cat >/var/tmp/larger.py && sudo python3 /var/tmp/larger.py {good}", LARGER)
    assert made.returncode == 0, made.stderr
    copied = "dumps/20200101T000000Z-db9 receipts/20200101T000000Z-db9.json"
    trial.store.check_output(f"cd /var/lib/phoenix-backup && chown -R phoenix-backup: {copied}")
    try:
        codes = trial.everywhere(f"manual-shrunken{int(time.time())}")
        assert any(codes.values()), trial.dumps()
        newest = trial.dumps()[-1]
        assert newest["state"] == "shrunken", newest
        time.sleep(2)
        assert trial.store.run("systemctl is-failed phoenix-backup-watch").rc == 0
        metrics = trial.store.file("/var/lib/phoenix/metrics/backup.prom").content_string
        assert "phoenix_backup_last_result 3\n" in metrics
        assert "shrunken" in trial.play("status").stdout
        assert trial.store.run(f"phoenix-backup accept {newest['name']}").rc == 0
        time.sleep(2)
        assert trial.store.run("systemctl is-failed phoenix-backup-watch").rc != 0
    finally:
        trial.store.run(f"cd /var/lib/phoenix-backup && rm -r {copied}")
        for host in trial.members.values():
            host.run("systemctl reset-failed 'phoenix-backup@*'")
