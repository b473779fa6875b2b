"""The store: its content, and its books.

Layout below the store's root:
  dumps/NAME/      dump.archive.gz, manifest.json, `unproven` until proof.json is there; chain.json: see prove
  receipts/        NAME.json for each dump that this store received; a dump without one was brought back by hand
  incoming/        what is being received; emptied by the next session
  failures/        attempts that left no dump
  logs/HOST/       log files, the host's sealed state, and .received.json; logs/INVENTORY/: the sealed inventory
  oplog/HOUR/      segments of the oplog
  plan.json, scratch.json, restored.json: what a restore was to do, needs in the scratch server, and did
  offsite.json     when the copy off-site was made, and verified
  clock.json, lock (held during a dump), oplog.lock (held by the session that receives the oplog), books (held while
  the books are changed), events (touched on every change)
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from phoenix.backup import clock, files, fingerprint, retention

NAME = re.compile(r"[0-9]{8}T[0-9]{6}Z-[a-z0-9][a-z0-9.-]*")
KINDS = ("nightly", "manual", "safety")
RETURNED = "returned"  # the kind of a dump that was copied into the store by hand
UNPROVEN = "unproven"
CHAIN = "chain.json"


@dataclass(frozen=True)
class Config:
    """Of /etc/phoenix/backup/store.json. Times in seconds, sizes in bytes."""

    root: str
    fleet: str
    replica_set: str
    keep_days: float
    late: float
    min_free: int
    interval: float
    silence: float
    scratch_cache_gb: float
    metrics: str
    port: int
    offsite: bool
    shrink_floor: int = 100
    shrink_ignore: Sequence[str] = ()
    longest: float = 8 * 3600.0
    proof: float = 8 * 3600.0  # that a verification may take
    oplog_metrics: str = ""
    hosts: Sequence[str] = ()  # those that send logs
    ca: str = ""  # path of the CAs by which the members are reached by TLS; "" without

    @staticmethod
    def read(path: Path) -> Config:
        """Raises OSError, ValueError or TypeError when the file is missing or wrong."""
        return Config(**json.loads(path.read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Dump:
    """A dump in the store, or an attempt that left none (state failed or full, no folder).

    proof_seconds: how long after its receipt it was proven, in the store's running time; chain: what came of the proof
    that the oplog leads to it, empty if there was none; conditions: what a full restore would be refused for; counted:
    what the proof counted, as in a manifest, of what no member can read at the dump's moment, capped collections and
    time series; expiry: what expires of it, see there.
    """

    name: str
    number: int
    elapsed: float
    received: float
    kind: str
    host: str
    request: str
    state: str
    reason: str
    folder: Path | None
    manifest: dict[str, Any]
    accepted: bool = False
    proof_seconds: float = 0.0
    chain: Mapping[str, Any] = field(default_factory=dict)
    conditions: Sequence[str] = ()
    counted: Mapping[str, Any] = field(default_factory=dict)
    expiry: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def counts(self) -> bool:
        """Whether it is one of the store's own backups: neither a safety dump nor brought back by hand."""
        return self.kind not in ("safety", RETURNED)

    @property
    def namespaces(self) -> dict[str, fingerprint.Collection]:
        """What it holds, capped collections and time series as far as they were counted."""
        return fingerprint.from_json({**self.manifest["namespaces"], **self.counted})


class Store:
    def __init__(self, config: Config) -> None:
        self.config = config
        self.root = Path(config.root)

    def prepare(self) -> None:
        """Create the missing parts of the layout."""
        for name in ("dumps", "incoming", "failures", "logs", "oplog", "scratch"):
            (self.root / name).mkdir(mode=0o750, exist_ok=True)
        # Their age is that of the host's place in the settings, until its first delivery.
        for host in self.config.hosts:
            (self.root / "logs" / host).mkdir(mode=0o750, exist_ok=True)
        self._prepare_receipts()
        # Created by the store's own user, so that root, who restores, does not.
        for name in ("lock", "scratch.lock", "oplog.lock"):
            (self.root / name).touch(0o640)

    def _prepare_receipts(self) -> None:
        """Create the folder of the receipts; those of an earlier version, next to the dumps, are moved into it."""
        receipts, partial = self.root / "receipts", self.root / "receipts.new"
        if receipts.is_dir():
            return
        partial.mkdir(mode=0o750, exist_ok=True)
        for path in (self.root / "dumps").glob("*/receipt.json"):
            files.write(partial / f"{path.parent.name}.json", path.read_text(encoding="utf-8"))
        partial.rename(receipts)

    def receipt(self, name: str) -> Path:
        """The record that this store received a dump. It does not travel with copies of the dump's folder."""
        return self.root / "receipts" / f"{name}.json"

    @contextlib.contextmanager
    def books(self, quiet: bool = False) -> Iterator[float]:
        """Lock the store's books; yields the store's running time in seconds. quiet: without notifying the watch."""
        with (self.root / "books").open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            floor = max((dump.elapsed for dump in self.dumps()), default=0.0)
            yield clock.read(self.root / "clock.json", floor)
        if not quiet:
            self.touch()

    def touch(self) -> None:
        """Notify the watch."""
        (self.root / "events").write_text(f"{time.time()}\n", encoding="ascii")

    def claim(self) -> IO[str] | None:
        """The lock of a dump; it ends with this process, and so with the sender's connection. None: held."""
        handle = (self.root / "lock").open("a+")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.close()
            return None
        return handle

    def free(self) -> int:
        return shutil.disk_usage(self.root).free

    def keep_free(self, size: int = 0, floor: int = 0) -> None:
        """Raise OSError (ENOSPC) below the free space to be left: other parts of the host share the disk.

        size: bytes that are to be added; floor: bytes to be left, where that is more.
        """
        free, left = self.free(), max(floor, self.config.min_free)
        if free - size < left:
            more = f", and {size} are to be added" if size else ""
            raise OSError(errno.ENOSPC, f"{free} bytes are free, {left} are to stay free{more}")

    def dumps(self) -> list[Dump]:
        """Every dump known, in the order of receipt; first those brought back by hand, which have no such order."""
        found = []
        for folder in (self.root / "dumps").iterdir():
            manifest = files.read_json(folder / "manifest.json")
            if manifest is None:
                continue
            receipt = files.read_json(self.receipt(folder.name)) or {
                "number": 0, "elapsed": 0.0, "received": 0.0, "kind": RETURNED,
                "host": str(manifest.get("member", "?")), "request": "",
            }  # fmt: skip
            proof = files.read_json(folder / "proof.json") or {"state": UNPROVEN, "reason": ""}
            found.append(
                Dump(
                    folder.name, receipt["number"], receipt["elapsed"], receipt["received"], receipt["kind"],
                    receipt["host"], receipt["request"], proof["state"], proof.get("reason", ""), folder, manifest,
                    bool(proof.get("accepted")), max(float(proof.get("elapsed", 0.0)) - receipt["elapsed"], 0.0),
                    files.read_json(folder / CHAIN) or {}, proof.get("conditions", ()),
                    # Versions up to 0.14.0 counted time series alone.
                    proof.get("counted", proof.get("series", {})), proof.get("expiry", {}),
                )
            )  # fmt: skip
        for path in (self.root / "failures").glob("*.json"):
            if failure := files.read_json(path):
                found.append(Dump(**failure, folder=None, manifest={}))
        return sorted(found, key=lambda dump: (dump.number, dump.name))

    def next_number(self) -> int:
        return max((dump.number for dump in self.dumps()), default=0) + 1

    def fail(self, name: str, kind: str, host: str, request: str, state: str, reason: str) -> None:
        """Record an attempt that left no dump; the last 50 are kept."""
        with self.books() as elapsed:
            number = self.next_number()
            record = {"name": name, "number": number, "elapsed": elapsed, "received": time.time(), "kind": kind,
                      "host": host, "request": request, "state": state, "reason": reason[:2000]}  # fmt: skip
            files.write(self.root / "failures" / f"{number:08d}.json", json.dumps(record))
            for path in sorted((self.root / "failures").glob("*.json"))[:-50]:
                path.unlink()

    def prune(self) -> list[retention.Verdict]:
        """Delete the dumps past their retention. To be called after a dump was proven good."""
        with self.books() as elapsed:
            known = self.dumps()
            # Dumps brought back by hand are removed by hand.
            kept = [
                retention.Kept(dump.name, dump.number, dump.elapsed, dump.state, dump.kind == "safety")
                for dump in known
                if dump.kind != RETURNED
            ]
            verdicts = retention.decide(kept, elapsed, self.config.keep_days)
            gone = {verdict.name for verdict in verdicts if not verdict.keep}
            for dump in known:
                if dump.folder and dump.name in gone:
                    # Hidden in one step: the rest of an interrupted deletion is never mistaken for a dump.
                    away = self.root / "incoming" / f"{dump.name}.deleted"
                    # The receipt first: the same dump, brought back later, must not count as received long ago.
                    self.receipt(dump.name).unlink(missing_ok=True)
                    dump.folder.rename(away)
                    shutil.rmtree(away)
        return [verdict for verdict in verdicts if not verdict.keep]
