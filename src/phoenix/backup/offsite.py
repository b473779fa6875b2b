"""The encrypted copy off-site, made with restic, and brought back from there.

A snapshot holds what a store needs to be one again: good dumps with their receipts, the oplog, logs, the hosts' sealed
state, and the store's clock. Its paths are relative to the store's root.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phoenix.backup import files
from phoenix.backup.store import RETURNED, Dump, Store

RECORD = "offsite.json"
PARTIAL = ".offsite"
ALIAS = "phoenix-offsite"  # the name under which the server's host key is known
DAY = 86400.0
NOWHERE = "there is no repository in backup_offsite_repository"
# A file that is gone by the time it is read, as retention goes on: a complete second try counts.
INCOMPLETE = 3
BLOCK = 4096  # in which a disk gives out room: an hour of the oplog is a thousand small files


class Refused(Exception):
    """There is no copy that could be used; the message states why, and what to do."""


@dataclass(frozen=True)
class Settings:
    """Of /etc/phoenix/backup/offsite.json, which only root may read.

    environment: of restic, with the credentials of the storage; ssh_key, ssh_host_key: for SFTP; append_only: the
    storage lets nothing be deleted, so retention is its own; min_free: bytes to be left free on the store's disk.
    """

    repository: str
    password: str = field(repr=False)
    fleet: str
    keep_days: int
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    ssh_key: str = field(default="", repr=False)
    ssh_host_key: str = ""
    append_only: bool = False
    min_free: int = 0

    @staticmethod
    def read(path: Path) -> Settings:
        """Raises OSError, ValueError or TypeError when the file is missing or wrong."""
        credentials = os.environ.get("CREDENTIALS_DIRECTORY")
        if credentials:
            path = Path(credentials) / "offsite"
        return Settings(**json.loads(path.read_text(encoding="utf-8")))


def ssh_command(repository: str, folder: Path) -> str:
    """Pure: how restic reaches a repository over SFTP, with the key and host key in folder; "" for other kinds.

    Both spellings of restic: sftp:[user@]host:path and sftp://[user@]host[:port]/path.
    """
    match = re.fullmatch(
        r"sftp:(?://)?(?:(?P<user>[^@/]+)@)?(?P<host>\[[^]]+\]|[^:/\[]+)(?::(?P<port>\d+)(?=/))?[:/].*", repository
    )
    if not match:
        return ""
    words = [
        "ssh", "-F", "none", "-i", str(folder / "key"), "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes",
        "-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={folder / 'known_hosts'}",
        "-o", "GlobalKnownHostsFile=/dev/null", "-o", f"HostKeyAlias={ALIAS}", "-o", "ConnectTimeout=20",
        "-o", "ServerAliveInterval=20", "-o", "LogLevel=ERROR",
        *(["-p", match["port"]] if match["port"] else []), *(["-l", match["user"]] if match["user"] else []),
        match["host"].strip("[]"), "-s", "sftp",
    ]  # fmt: skip
    return " ".join(words)


class Restic:
    """The repository, by restic's commands."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.folder = folder
        for name, content in (("password", settings.password), ("key", settings.ssh_key)):
            (folder / name).touch(0o600)
            (folder / name).write_text(content.strip() + "\n", encoding="utf-8")
        (folder / "known_hosts").write_text(f"{ALIAS} {settings.ssh_host_key}\n", encoding="utf-8")
        command = ssh_command(settings.repository, folder)
        self._options = ["-o", f"sftp.command={command}"] if command else []
        cache = os.environ.get("CACHE_DIRECTORY")
        self._options += ["--cache-dir", cache] if cache else ["--no-cache"]
        self._environment = {
            **os.environ,
            **settings.environment,
            "RESTIC_REPOSITORY": settings.repository,
            "RESTIC_PASSWORD_FILE": str(folder / "password"),
        }

    def run(self, *words: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["restic", "--quiet", *words, *self._options],
            env=self._environment, cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def snapshots(self, fleet: str) -> list[dict[str, Any]]:
        """The fleet's snapshots, oldest first. Raises Refused."""
        done = self.run("snapshots", "--json", "--host", fleet, "--no-lock")
        if done.returncode:
            raise Refused(complaint(done))
        return sorted(json.loads(done.stdout) or [], key=lambda one: str(one["time"]))

    def size(self, snapshot: str) -> int:
        """Bytes that a snapshot takes on a disk once it is restored. Raises Refused."""
        done = self.run("stats", snapshot, "--mode", "restore-size", "--json", "--no-lock")
        if done.returncode:
            raise Refused(complaint(done))
        said = json.loads(done.stdout)
        return int(said["total_size"]) + BLOCK * int(said["total_file_count"])


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """What restic says of a failure, in one line, with what to do where that is known."""
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    said = "; ".join(lines[-3:]) or f"restic ended with {done.returncode}"
    if "wrong password" in said:
        return (
            f"backup_offsite_password does not open the repository ({said}): run rotate-copy.yml if you "
            "replaced it, and if that does not know the former one, give the one that it was made with"
        )
    if "unable to open config file" in said or "Is there a repository" in said:
        return f"{NOWHERE} ({said})"
    return said


@contextmanager
def connected(settings: Settings) -> Iterator[Restic]:
    with tempfile.TemporaryDirectory() as folder:
        yield Restic(settings, Path(folder))


def wanted(known: Sequence[Dump]) -> list[Dump]:
    """Pure: the dumps that belong off-site, which are good. Those brought back by hand came from there."""
    return [dump for dump in known if dump.folder and dump.state == "good" and dump.kind != RETURNED]


def check_due(last: float, now: float) -> bool:
    """Pure: whether the repository is to be verified, once a day. A clock that was set back delays it by no more."""
    return not 0 <= now - last < DAY


def run(store: Store, settings: Settings) -> int:
    """Copy, apply the retention, and verify once a day. Returns the exit code."""
    with connected(settings) as restic:
        try:
            copy(store, settings, restic)
        except Refused as error:
            print(f"not off-site: {error}", flush=True)
            return 1
    return 0


def copy(store: Store, settings: Settings, restic: Restic) -> None:
    """Raises Refused."""
    record = files.read_json(store.root / RECORD) or {}
    dumps = wanted(store.dumps())
    done = _backup(store, settings, restic, dumps)
    if done.returncode:
        _prepare(restic, done, bool(record))
        dumps = wanted(store.dumps())
        done = _backup(store, settings, restic, dumps)
    _must(done)
    now = time.time()
    record = {**record, "copied": now, "received": max((dump.received for dump in dumps), default=0.0)}
    files.write(store.root / RECORD, json.dumps(record))
    print(f"off-site: {len(dumps)} dumps, with the oplog, logs and state", flush=True)
    if check_due(float(record.get("checked", 0.0)), now):
        restic.run("unlock")
        # A store that was lost and begins again must not drop the copies from which it could be brought back.
        if dumps and not settings.append_only:
            _must(restic.run(
                "forget", "--host", settings.fleet, "--group-by", "host", "--keep-hourly", "24",
                "--keep-daily", str(settings.keep_days), "--prune",
            ))  # fmt: skip
        # Everything is read back within a week.
        part = int(now // DAY) % 7 + 1
        _must(restic.run("check", f"--read-data-subset={part}/7"))
        files.write(store.root / RECORD, json.dumps({**record, "checked": now}))
        print(f"off-site: verified, part {part} of 7 read back", flush=True)


def _must(done: subprocess.CompletedProcess[str]) -> None:
    """Raises Refused when restic failed."""
    if done.returncode:
        raise Refused(complaint(done))


def _prepare(restic: Restic, done: subprocess.CompletedProcess[str], known: bool) -> None:
    """Make a second try possible, after one that failed; known: there was a copy already. Raises Refused."""
    said = complaint(done)
    if NOWHERE in said:
        if known:  # it must not be hidden by a new one
            raise Refused(f"{said}, where one was before")
        _must(restic.run("init"))
        print("off-site: repository created", flush=True)
    elif "already locked" in said:
        _must(restic.run("unlock"))  # only locks of processes that are dead
    elif done.returncode != INCOMPLETE:
        raise Refused(said)


def _backup(
    store: Store, settings: Settings, restic: Restic, dumps: Sequence[Dump]
) -> subprocess.CompletedProcess[str]:
    """Make a snapshot."""
    paths = [f"dumps/{dump.name}" for dump in dumps]
    paths += [name for name in ("receipts", "oplog", "logs", "clock.json") if (store.root / name).exists()]
    return restic.run(
        "backup", "--host", settings.fleet, "--exclude", "*.lock", "--exclude", ".*.part", *paths, folder=store.root
    )


def copies(settings: Settings) -> list[str]:
    """The times of the copies that can bring the fleet back, oldest first, at least one. Raises Refused."""
    with connected(settings) as restic:
        return [str(one["time"])[:19] + "Z" for one in _of_the_fleet(restic, settings)]


def _of_the_fleet(restic: Restic, settings: Settings) -> list[dict[str, Any]]:
    """The fleet's snapshots that hold dumps, or else all of them; at least one, oldest first. Raises Refused.

    A store that was lost and set up again, without a recovery, has gone on with copies that hold none.
    """
    found = restic.snapshots(settings.fleet)
    if not found:
        raise Refused(f"the repository holds no copy of the fleet {settings.fleet} (backup_fleet)")
    return [one for one in found if any(Path(path).parent.name == "dumps" for path in one["paths"])] or found


def fetch(root: Path, settings: Settings) -> dict[str, Any]:
    """Bring the newest of the copies back into a store without dumps. Returns its time and size. Raises Refused.

    What was fetched of a copy that did not come whole is removed: it is of no use, and may have filled the disk.
    """
    if held(root):
        raise Refused(f"{root} holds backups already, and nothing replaces them: move them away first")
    partial = root / PARTIAL
    shutil.rmtree(partial, ignore_errors=True)  # of an attempt that was killed
    try:
        with connected(settings) as restic:
            newest = _of_the_fleet(restic, settings)[-1]
            _look_for_room(root, settings, restic.size(str(newest["id"])))
            partial.mkdir(mode=0o700, parents=True)
            begun = time.monotonic()
            done = restic.run("restore", str(newest["id"]), "--target", str(partial), "--no-lock")
            if done.returncode:
                raise Refused(complaint(done))
        owner = root.stat()
        for path in [partial, *partial.rglob("*")]:
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
        size = sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())
        # The dumps last: with them the store counts as one that holds backups.
        for path in sorted(partial.iterdir(), key=lambda path: path.name == "dumps"):
            _merge(path, root / path.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return {"time": str(newest["time"])[:19] + "Z", "bytes": size, "seconds": round(time.monotonic() - begun, 1)}


def _look_for_room(root: Path, settings: Settings, size: int) -> None:
    """Raises Refused if so many bytes do not fit beside what is to stay free on the disk of a folder."""
    there = next(path for path in (root, *root.parents) if path.exists())
    free, needed = shutil.disk_usage(there).free, size + settings.min_free
    if free < needed:
        raise Refused(
            f"the disk has {free} bytes free at {root} (backup_store_dir), and the copy needs {needed}: {size} for "
            f"itself, and {settings.min_free} that are to stay free (backup_min_free_mb). Nothing was fetched: free "
            "space there, enlarge the disk, or set backup_store_dir to a folder on a larger one"
        )


def _merge(source: Path, target: Path) -> None:
    """Move a file or folder; what hosts have sent to the empty store meanwhile stays."""
    if source.is_dir() and target.is_dir():
        for path in source.iterdir():
            _merge(path, target / path.name)
    elif not target.exists():
        source.replace(target)


def held(root: Path) -> bool:
    """Whether a store's folder holds backups: without a dump, all else that came is of no use."""
    return any((root / "dumps").glob("*/manifest.json"))
