"""Copy good dumps, logs and the oplog off-site with rclone, to any storage it supports (S3, SFTP and others).

It adds and never deletes there: the remote's own rules decide how long a copy is kept, out of this host's reach.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path

from phoenix.backup import files
from phoenix.backup.store import RETURNED, Dump, Store

MARK = "offsite.json"


def due(known: list[Dump]) -> list[Dump]:
    """Good dumps that were not copied yet. Those brought back by hand came from there."""
    good = [dump for dump in known if dump.folder and dump.state == "good" and dump.kind != RETURNED]
    return [dump for dump in good if dump.folder and not (dump.folder / MARK).exists()]


def _rclone(config: Path, *words: str) -> None:
    """Raises subprocess.CalledProcessError."""
    common = ["--config", str(config), "--immutable", "--exclude", MARK, "--exclude", ".*"]
    subprocess.run(["rclone", *words, *common], check=True)


def run(store: Store, credential: Path) -> int:
    """Copy what is due, and compare it there. credential: rclone's configuration. Returns the exit code."""
    # rclone writes what it learns about the remote to its configuration, and waits long where it can't.
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "rclone.conf"
        config.touch(0o600)
        config.write_bytes(credential.read_bytes())
        return copy(store, config)


def copy(store: Store, config: Path) -> int:
    for dump in due(store.dumps()):
        assert dump.folder
        there = f"{store.config.offsite}/dumps/{dump.name}"
        try:
            _rclone(config, "copy", str(dump.folder), there)
            # Read back, once: over SFTP there may be no hash to ask for, and then sizes alone would be compared.
            _rclone(config, "check", "--one-way", "--download", str(dump.folder), there)
        except subprocess.CalledProcessError as error:
            print(f"{dump.name}: not copied, rclone ended with {error.returncode}", flush=True)
            return 1
        files.write(dump.folder / MARK, json.dumps({"copied": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}))
        print(f"{dump.name}: copied to {there}", flush=True)
    for part in ("logs", "oplog"):
        try:
            _rclone(config, "copy", str(store.root / part), f"{store.config.offsite}/{part}")
        except subprocess.CalledProcessError as error:
            print(f"{part}: not copied, rclone ended with {error.returncode}", flush=True)
            return 1
    return 0
