"""The nightly dump compared with a bare mongodump of the same data, its proof, and its effect on requests."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

from bench.fleet import Fleet, Row
from phoenix.common import prometheus
from tests.harness import programs
from tests.harness.backup import DOCUMENTS, DUMPS, Trial, own_store
from tests.harness.database import primaries
from tests.harness.load import RATE, load
from tests.harness.waiting import wait_for

ROUNDS = 3
SECONDS = 20.0
REPLAYED = re.compile(r"replayed (\d+) changes in ([\d.]+) s")
# The sender waits for the proof, which is off here: it is stopped once it reports that the dump is stored.
UNTIL_STORED = (
    "systemctl start --no-block phoenix-backup@{unit}; for i in $(seq 100); do sleep 0.1;"
    " journalctl -u phoenix-backup@{unit} -o cat --no-pager | grep -q stored, && break; done;"
    " systemctl stop phoenix-backup@{unit}"
)
# As an operator would: to a file, with the password in mongodump's own configuration.
BARE = (
    "cd /var/tmp && rm -f bare.gz && s=$(date +%s%N) && /opt/mongodb-tools/current/bin/mongodump --quiet"
    " --config=/etc/phoenix/backup/mongodb.json --username=backup --authenticationDatabase=admin --host=127.0.0.1"
    " $(! grep -q '  tls:' /etc/mongod.conf || echo --ssl --sslCAFile=/etc/ssl/phoenix/database-ca.pem)"
    " --oplog --gzip --archive=bare.gz && echo $(( ($(date +%s%N) - s) / 1000000 )) && rm bare.gz"
)


def measure(fleet: Fleet) -> list[Row]:
    trial = Trial(fleet.inventory)
    with own_store(trial):
        trial.documents("fill", str(DOCUMENTS))
        try:
            return times(trial) + oplog(trial) + latencies(fleet, trial)
        finally:
            trial.documents("drop")


def dumped(trial: Trial, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make a dump and return its manifest and proof."""
    trial.everywhere(f"manual-bench{number}-{int(time.time())}")
    newest = trial.dumps()[-1]
    assert newest["state"] == "good", newest
    proof = trial.store.check_output(f"cat {DUMPS}/{newest['name']}/proof.json")
    return trial.manifest(newest["name"]), json.loads(proof)


def times(trial: Trial) -> list[Row]:
    ours, hashes, proofs, bare = [], [], [], []
    for number in range(ROUNDS):
        manifest, proof = dumped(trial, number)
        ours.append(manifest["dump_seconds"])
        hashes.append(manifest["hash_seconds"])
        proofs.append(proof["seconds"])
        bare.append(int(trial.members[manifest["member"]].check_output(BARE)) / 1000)
    note = f"reference: a bare mongodump to a file on that member; medians of {ROUNDS}"
    return [
        Row("nightly dump, streamed to the store", median(ours), "s", median(bare), note),
        Row("counts and hashes of the member", median(hashes), "s", note="part of the proof"),
        Row("proof: restored, compared", median(proofs), "s"),
    ]


def oplog(trial: Trial) -> list[Row]:
    """Measure how far the store's oplog is behind while documents are written, and what the shipping costs a member.

    Then restore the last of it, with documents enough for the replay's rate.
    """
    with ThreadPoolExecutor() as pool:
        before = {name: cpu_seconds(host) for name, host in trial.members.items()}
        begun, first = time.monotonic(), float(trial.store.check_output("date +%s.%N"))
        writing = pool.submit(trial.documents, "write", f"{SECONDS:g}")
        behind = []
        while not writing.done():
            text = trial.store.check_output("date +%s.%N; cat /var/lib/phoenix/metrics/oplog.prom")
            now, shipped = float(text.split()[0]), prometheus.read(text)["phoenix_backup_oplog_timestamp_seconds"]
            # An idle set has nothing to ship: what is behind began with the writes.
            behind.append(now - max(shipped, first))
            time.sleep(0.5)
        seconds, written = time.monotonic() - begun, writing.result()
    used = max(cpu_seconds(host) - before[name] for name, host in trial.members.items())
    trial.documents("fill", str(DOCUMENTS))
    second = int(trial.store.check_output("date +%s"))
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))
    wait_for(lambda: trial.order(programs.BACKUP_PLAN, moment=moment).returncode == 0, 60, "the oplog of the writes")
    dump = json.loads(trial.order(f"{programs.BACKUP_PLAN} --json", moment=moment).stdout)["dump"]
    unit = f"phoenix-backup-scratch@{dump}:{second}"
    trial.store.check_output(f"systemctl start {unit}; systemctl stop {unit}")
    shown = trial.store.check_output(f"journalctl --unit={unit} --output=cat --no-pager")
    changes, taken = REPLAYED.findall(shown)[-1]
    rate = written["marks"] * 3 / seconds
    return [
        Row("the store's oplog behind, mean", sum(behind) / len(behind), "s", note=f"at {rate:.0f} writes/s"),
        Row("the store's oplog behind, at most", max(behind), "s", note="counted from the last entry's whole second"),
        Row("CPU of the member that ships", used / seconds * 100, "% of a core", note=f"at {rate:.0f} writes/s"),
        Row("replay", int(changes) / float(taken), "changes/s", note=f"{changes} changes"),
    ]


def cpu_seconds(host: Any) -> float:
    """CPU that the shipper has used so far."""
    fields = host.check_output("cat /proc/$(systemctl show -P MainPID phoenix-oplog)/stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def latencies(fleet: Fleet, trial: Trial) -> list[Row]:
    """Measure the load's latency during one dump after another, without their proofs, and with them."""
    client = fleet.client()
    member = next(host for name, host in trial.members.items() if name not in primaries(trial.members))
    with load(client, fleet.url) as quiet:
        time.sleep(SECONDS)
    trial.store.check_output("systemctl stop phoenix-backup-prove.path")
    try:
        with load(client, fleet.url) as dumping:
            dumps = repeat(member, UNTIL_STORED)
    finally:
        trial.store.run(f"rm -rf {DUMPS}/*-*/unproven; systemctl start phoenix-backup-prove.path")
    with load(client, fleet.url) as proving:
        proofs = repeat(member, "systemctl start phoenix-backup@{unit}")
    before = float(quiet["p99_s"]) * 1000
    return [
        Row(
            f"99th percentile at {RATE}/s during dumps", float(dumping["p99_s"]) * 1000, "ms", before,
            f"reference: before; {dumps} dumps in {SECONDS:g} s",
        ),
        Row(
            f"99th percentile at {RATE}/s during dumps and proofs", float(proving["p99_s"]) * 1000, "ms", before,
            f"{proofs} in {SECONDS:g} s; in the lab the store shares the cores of all hosts",
        ),
        Row(f"failed at {RATE}/s meanwhile", float(dumping["failed"] + proving["failed"]), "requests"),
    ]  # fmt: skip


def repeat(member: Any, command: str) -> int:
    """Run the command for a new dump repeatedly and return how often."""
    count, end = 0, time.monotonic() + SECONDS
    while time.monotonic() < end:
        member.run(command.format(unit=f"manual-load{count}-{int(time.time())}"))
        count += 1
    return count
