"""The store's report: one line, metrics, and whether something is wrong."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from phoenix.backup import files, fingerprint, offsite, uploads
from phoenix.backup.oplog import chain
from phoenix.backup.store import UNPROVEN, Dump, Store
from phoenix.common import files as atomic
from phoenix.common import prometheus

RESULTS = {"good": 0, "failed": 1, "bad": 2, "shrunken": 3, "full": 4, "empty": 1}
GAUGES = {
    "phoenix_backup_last_result": "0 good, 1 failed or empty, 2 bad or never proven, 3 shrunken, 4 store full",
    "phoenix_backup_last_run_timestamp_seconds": "When the last dump, or the last failed attempt, was received.",
    "phoenix_backup_store_free_bytes": "Free space of the store.",
    "phoenix_backup_newest_good_timestamp_seconds": "When the newest good dump was received, plus its proof's time.",
    "phoenix_backup_newest_good_bytes": "Its size.",
    "phoenix_backup_newest_good_documents": "Its documents.",
    "phoenix_backup_oldest_good_timestamp_seconds": "When the oldest good dump was received; absent without one.",
    "phoenix_backup_good_dumps": "Dumps that can be restored.",
    "phoenix_backup_duration_seconds": "How long the newest good dump took.",
    "phoenix_backup_hash_seconds": "How long reading the collections of the newest dump took.",
    "phoenix_backup_hash_window_seconds": "For how long the server keeps the moment of a dump.",
    "phoenix_backup_window_ratio": "The largest share of its time limit: of that, of the dump, of the verification.",
    "phoenix_backup_logs_oldest_age_seconds": "Time since the host whose logs have been missing for longest sent any.",
    "phoenix_backup_files_shrunken_hosts": "Hosts whose newest archive of phoenix_writable_paths is shrunken.",
    "phoenix_backup_chain_result": "0, or 1: the oplog does not lead from one dump to the next.",
    "phoenix_backup_offsite_newest_timestamp_seconds": "When the newest dump that is off-site was received.",
}
# Share of a time limit from which on it is a problem.
LIMIT_SHARE = 0.7


@dataclass(frozen=True)
class Report:
    """line: for people; problems: empty if there are none; metrics: name and value."""

    line: str
    problems: list[str]
    metrics: dict[str, float]


def report(
    known: Sequence[Dump],
    now: float,
    elapsed: float,
    free: int,
    late: float,
    min_free: int,
    longest: float = 28800.0,
    proof: float = 28800.0,
) -> Report:
    """Pure. now: clock in seconds since 1970; elapsed: running time of the store; free, min_free: bytes.

    late: seconds of the newest good dump's age; longest, proof: seconds that a dump, and a verification, may take.
    """
    counted = [dump for dump in known if dump.counts]
    good = [dump for dump in counted if dump.state == "good" and dump.folder]
    last = counted[-1] if counted else None
    settled = [dump for dump in counted if dump.state != UNPROVEN]
    problems = []
    # A store without any good dump is late once it has run for that long. A dump's age counts from its proof: counted
    # from its receipt, each night would be late by as much as its proof takes longer than usual.
    delay = min(good[-1].proof_seconds, proof) if good else 0.0
    age = max(now - good[-1].received, elapsed - good[-1].elapsed) - delay if good else elapsed
    pending = last is not None and last.state == UNPROVEN and elapsed - last.elapsed <= proof
    if age > late:
        what = good[-1].name if good else "none at all"
        problems.append(f"the newest good dump is {what}, {age / 3600:.1f} h old")
    if last and last.state not in ("good", UNPROVEN):
        problems.append(f"the last run is {last.state}: {last.reason}")
    if last and last.state == UNPROVEN and not pending:
        problems.append(f"{last.name} was never proven")
    hashing, window = _hashing(settled)
    shares = _shares(hashing, window, good[-1] if good else None, longest, proof)
    problems += [sentence for share, sentence in shares if share > LIMIT_SHARE]
    if free < min_free:
        problems.append(f"the store is full: {free} bytes are free")
    # While a proof is pending, the last result stands. No result yet is not a failure: the age reports a late one.
    result = RESULTS.get(settled[-1].state, 1) if settled else 0
    if last and last.state == UNPROVEN and not pending:
        result = RESULTS["bad"]
    metrics = {
        "phoenix_backup_last_result": float(4 if free < min_free else result),
        "phoenix_backup_last_run_timestamp_seconds": last.received if last else 0.0,
        "phoenix_backup_store_free_bytes": float(free),
        # Without a good dump, the time since which the store runs: it is late once that is too long.
        "phoenix_backup_newest_good_timestamp_seconds": now - elapsed,
        "phoenix_backup_newest_good_bytes": 0.0,
        "phoenix_backup_newest_good_documents": 0.0,
        "phoenix_backup_duration_seconds": 0.0,
        "phoenix_backup_hash_seconds": hashing,
        "phoenix_backup_hash_window_seconds": window,
        "phoenix_backup_window_ratio": max(share for share, _ in shares),
        "phoenix_backup_good_dumps": float(len(good)),
    }
    line = "no good dump"
    if good:
        dump = good[-1]
        documents, _ = fingerprint.totals(dump.namespaces)
        metrics["phoenix_backup_newest_good_timestamp_seconds"] = dump.received + delay
        metrics["phoenix_backup_oldest_good_timestamp_seconds"] = good[0].received
        metrics["phoenix_backup_newest_good_bytes"] = float(dump.manifest["size"])
        metrics["phoenix_backup_newest_good_documents"] = float(documents)
        metrics["phoenix_backup_duration_seconds"] = float(dump.manifest["dump_seconds"])
        line = f"{dump.name}, {age / 3600:.1f} h old, {documents} documents, {len(good)} good"
        if others := dump.manifest.get("left_out"):
            line += f", without {', '.join(others[:10])}{'…' if len(others) > 10 else ''}: see phoenixctl backup list"
    if problems:
        line += "; " + "; ".join(problems)
    return Report(line, problems, metrics)


def _hashing(settled: Sequence[Dump]) -> tuple[float, float]:
    """Seconds that reading the newest dump's collections took, and that the server keeps the moment; or zeros."""
    for dump in reversed(settled):
        if dump.folder:
            hashing, window = dump.manifest.get("hash_seconds"), dump.manifest.get("window_seconds")
            if isinstance(hashing, (int, float)) and isinstance(window, (int, float)) and window > 0:
                return float(hashing), float(window)
    return 0.0, 0.0


def _shares(
    hashing: float, window: float, newest: Dump | None, longest: float, proof: float
) -> list[tuple[float, str]]:
    """The shares of their time limits that the newest dump's steps took, and what to say where that is too much."""
    sending = hashing + (float(newest.manifest["dump_seconds"]) if newest else 0.0)
    # Until it, and the oplog that leads to it, were verified: one unit does both.
    proving = newest.proof_seconds + float(newest.chain.get("seconds", 0.0)) if newest else 0.0
    return [
        (
            hashing / window if window else 0.0,
            f"reading the moment of a dump takes {hashing:.0f} s of the {window:.0f} s for which the server keeps it: "
            "raise minSnapshotHistoryWindowInSeconds",
        ),
        (
            sending / longest,
            f"a dump takes {sending / 3600:.1f} h of the {longest / 3600:.0f} h that it may take "
            "(backup_longest_hours): the member needs a faster disk, or faster cores for packing",
        ),
        (
            proving / proof,
            f"verifying a dump takes {proving / 3600:.1f} h of the {proof / 3600:.0f} h that it may take "
            "(backup_proof_hours): the store needs a faster disk, or more memory (backup_scratch_cache_gb)",
        ),
    ]


def oplog_report(ranges: Sequence[chain.Range], known: Sequence[Dump], now: float) -> Report:
    """Pure: the same of the oplog."""
    if not ranges:
        return Report("no oplog", [], {"phoenix_backup_chain_result": 0.0})
    windows = [f"{chain.show(first)} to {chain.show(last)}" for first, last in chain.windows(ranges, known)]
    texts = [f"restorable: {' and '.join(windows) or 'no moment between the dumps'}"]
    texts.append(f"the oplog is {max(now - ranges[-1].last[0], 0):.0f} s behind")
    texts += [
        f"the oplog has a gap from {chain.show(one.last[0])} to {chain.show(next_one.first[0])}"
        for one, next_one in zip(ranges, ranges[1:])
    ]
    problems = []
    if chain.after_gap(ranges, known, now)[0] == 2:
        problems.append("there is no good dump since the oplog's last gap")
    proven = [dump for dump in known if dump.chain]
    state = proven[-1].chain.get("state") if proven else ""
    bad = state in ("bad", "full")
    if bad:
        last = proven[-1]
        said = "was not verified" if state == "full" else "does not lead"
        problems.append(f"the oplog {said} from {last.chain['base']} to {last.name}: {last.chain['reason']}")
    return Report("; ".join(texts + problems), problems, {"phoenix_backup_chain_result": float(bad)})


def look(store: Store) -> Report:
    """The current report; changes nothing."""
    clock = files.read_json(store.root / "clock.json") or {}
    config, now, known = store.config, time.time(), store.dumps()
    elapsed = float(clock.get("elapsed", 0.0))
    dumps = report(known, now, elapsed, store.free(), config.late, config.min_free, config.longest, config.proof)
    oplog = oplog_report(chain.Chain(store.root).ranges(), known, now)
    metrics = {**dumps.metrics, **oplog.metrics, "phoenix_backup_logs_oldest_age_seconds": logs_age(store, now)}
    less = uploads.problems(uploads.held(store), config.hosts)
    metrics["phoenix_backup_files_shrunken_hosts"] = float(len(less))
    if less:
        # A result of the dump itself comes first.
        metrics["phoenix_backup_last_result"] = dumps.metrics["phoenix_backup_last_result"] or RESULTS["shrunken"]
    if config.offsite:
        record = files.read_json(store.root / offsite.RECORD) or {}
        # Without any, since the store runs: as for the dumps themselves.
        metrics["phoenix_backup_offsite_newest_timestamp_seconds"] = record.get("received") or now - elapsed
    return Report("; ".join([dumps.line, oplog.line, *less]), dumps.problems + oplog.problems + less, metrics)


def logs_age(store: Store, now: float) -> float:
    """Seconds since the last complete delivery of logs, of the host for which that is longest; each sends nightly."""
    ages = [0.0]
    for host in store.config.hosts:
        folder = store.root / "logs" / host
        # The books are written at the end of each delivery; the folder is as old as the host's place in the settings.
        seen = next((path for path in (folder / ".received.json", folder) if path.exists()), None)
        if seen is not None:
            ages.append(now - seen.stat().st_mtime)
    return max(ages)


def run(store: Store) -> int:
    """Write the metrics and print the line; 1 when something is wrong, so that the unit fails."""
    found = look(store)
    metrics = Path(store.config.metrics)
    print(found.line, flush=True)
    atomic.replace(metrics, prometheus.exposition(found.metrics, GAUGES))
    return int(bool(found.problems))


def made(store: Store, unit: str) -> int:
    """Report the result of manual-ID or safety-ID; 0 if the dump is good or, for a safety dump, at least proven."""
    kind, _, request = unit.partition("-")
    found = [dump for dump in store.dumps() if dump.kind == kind and dump.request == request]
    if not found:
        print(f"{unit}: no database host has reached the store.")
        return 1
    dump = next((dump for dump in found if dump.folder), found[-1])
    print(f"{dump.name}: {dump.state}{': ' + dump.reason if dump.reason else ''}.")
    return int(dump.state not in (("good", "shrunken", "empty") if kind == "safety" else ("good",)))


def table(store: Store) -> str:
    """Everything in the store, for people."""
    form = "{:<34} {:<8} {:<8} {:<9} {:>10} {:>10} {:<5}  {}".format
    lines = [form("DUMP", "KIND", "MEMBER", "STATE", "DOCUMENTS", "BYTES", "OPLOG", "REASON")]
    for dump in store.dumps():
        documents = fingerprint.totals(dump.namespaces)[0] if dump.folder else 0
        size = dump.manifest.get("size", 0)
        proven = dump.chain.get("state", "-")
        reasons = [dump.reason] if dump.reason else []
        reasons += [f"restorable with a condition: {one}" for one in dump.conditions]
        lines.append(form(dump.name, dump.kind, dump.host, dump.state, documents, size, proven, "; ".join(reasons)))
    if archives := uploads.held(store):
        short = "{:<43} {:<9} {:>21}  {}".format
        lines += ["", short("FILES", "STATE", "BYTES", "REASON")]
        lines += [short(f"{one.host}/{one.name}", one.state, one.bytes, one.reason) for one in archives]
    return "\n".join(lines)
