"""A disposable server for one archive: restored with its oplog, compared with the manifest, then removed.

A dump's content can be brought forward with the oplog that the store has, up to any later moment.

Its unit has no network but its own loopback, and bounded memory; other processes reach the scratch server through its
socket.
"""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from phoenix.backup import files, fingerprint
from phoenix.backup.archive import Moment
from phoenix.backup.oplog import segment
from phoenix.backup.oplog.chain import Chain, Unreachable, moment_of
from phoenix.backup.oplog.replay import Unreplayable, replay
from phoenix.backup.store import Dump, Store

PORT = 27917
START_SECONDS = 60.0
SERVER = Path("/opt/mongodb/current/bin/mongod")
TOOLS = Path("/opt/mongodb-tools/current/bin")
# A member may hold indexes of former server versions. Converted, indexes of the same keys count as one, though they
# differ in collation or filter: so that is done only where a dump can't be restored without.
LEGACY = ("--convertLegacyIndexes", "--drop")


class Unproven(Exception):
    """The archive could not be restored, or differs from its manifest."""


def uri(store: Store) -> str:
    socket = urllib.parse.quote(str(store.root / "scratch" / f"mongodb-{PORT}.sock"), safe="")
    return f"mongodb://{socket}/"


def client(store: Store) -> Any:
    import pymongo  # noqa: PLC0415 - the session that receives does without

    return pymongo.MongoClient(uri(store), directConnection=True, serverSelectionTimeoutMS=5000)


def check(store: Store, dump: Dump) -> None:
    """Check the archive on the disk. Raises Unproven if it is another fleet's, or not the one received."""
    manifest = dump.manifest
    if manifest.get("fleet") != store.config.fleet or manifest.get("replica_set") != store.config.replica_set:
        raise Unproven(
            f"it is of another fleet: {manifest.get('fleet')}/{manifest.get('replica_set')}, this store is "
            f"{store.config.fleet}/{store.config.replica_set}'s"
        )
    assert dump.folder
    checksum = hashlib.sha256()
    try:
        with (dump.folder / "dump.archive.gz").open("rb") as stream:
            while piece := stream.read(1024 * 1024):
                checksum.update(piece)
    except OSError as error:
        raise Unproven(f"its archive can't be read: {error}") from error
    if checksum.hexdigest() != manifest.get("sha256"):
        raise Unproven("its archive is damaged: the checksum is another")


@contextlib.contextmanager
def serving(store: Store, dump: Dump) -> Iterator[list[str]]:
    """Run the scratch server with the dump in it; yields the differences from the manifest.

    Raises Unproven, OSError.
    """
    folder = store.root / "scratch"
    files.clear(folder)
    (folder / "db").mkdir(mode=0o700)
    server = subprocess.Popen(
        # Without the monitor of TTL indexes, which would delete what has expired since the dump's moment.
        [str(SERVER), f"--dbpath={folder / 'db'}", f"--port={PORT}", "--bind_ip=127.0.0.1",
         f"--unixSocketPrefix={folder}", f"--wiredTigerCacheSizeGB={store.config.scratch_cache_gb}",
         f"--logpath={folder / 'mongod.log'}", "--setParameter=diagnosticDataCollectionEnabled=false",
         "--setParameter=ttlMonitorEnabled=false",
         # Of each of the four collections whose indexes mongorestore builds at a time: the unit's memory is bounded.
         "--setParameter=maxIndexBuildMemoryUsageMegabytes=50"],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait(store, server)
        assert dump.folder
        restored = _restore(store, dump.folder / "dump.archive.gz")
        if restored.returncode and "index" in restored.stderr:
            restored = _restore(store, dump.folder / "dump.archive.gz", *LEGACY)
        if restored.returncode:
            raise Unproven(
                f"mongorestore ended with {restored.returncode}: {' | '.join(restored.stderr.splitlines()[-3:])}"
            )
        with contextlib.closing(client(store)) as connection:
            seen = fingerprint.comparable(dump.manifest, fingerprint.take(connection))
        yield fingerprint.differences(fingerprint.from_json(dump.manifest["namespaces"]), seen)
    finally:
        server.terminate()
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        files.clear(folder)


def forward(store: Store, dump: Dump, limit: Moment) -> int:
    """Replay the oplog from the dump's moment to just before limit; returns how many changes were applied.

    Raises Unproven.
    """
    from pymongo.errors import PyMongoError  # noqa: PLC0415

    since = moment_of(dump)
    try:
        with contextlib.closing(client(store)) as connection:
            return replay(connection, Chain(store.root).entries(since, limit), since)
    except (Unreachable, Unreplayable, segment.Damaged, PyMongoError) as error:
        raise Unproven(f"the oplog can't be replayed: {str(error)[:500]}") from error


def _restore(store: Store, archive: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Restore with the oplog; documents that are older than their collection's validator are as good as the others."""
    return subprocess.run(
        [str(TOOLS / "mongorestore"), f"--uri={uri(store)}", f"--archive={archive}", "--gzip", "--oplogReplay",
         "--numInsertionWorkersPerCollection=2", "--bypassDocumentValidation", *more],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def _wait(store: Store, server: subprocess.Popen[bytes]) -> None:
    from pymongo.errors import PyMongoError  # noqa: PLC0415

    deadline = time.monotonic() + START_SECONDS
    while True:
        if server.poll() is not None:
            raise Unproven(f"the scratch server ended with {server.returncode}")
        try:
            with contextlib.closing(client(store)) as connection:
                connection.admin.command("ping")
            return
        except PyMongoError as error:
            if time.monotonic() > deadline:
                raise Unproven("the scratch server does not answer") from error
            time.sleep(0.2)
