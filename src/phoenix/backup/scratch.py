"""A disposable server for one archive, or a part of it: restored with its oplog, compared with the manifest, removed.

A dump's content can be brought forward with the oplog that the store has, up to any later moment.

Its unit has no network but its own loopback, and bounded memory; other processes reach the scratch server through its
socket.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
import urllib.parse
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from phoenix.backup import files, fingerprint, narrow, room
from phoenix.backup.archive import Moment
from phoenix.backup.oplog import segment
from phoenix.backup.oplog.chain import Chain, Unreachable, moment_of
from phoenix.backup.oplog.replay import Unreplayable, replay
from phoenix.backup.scope import EVERYTHING, Scope
from phoenix.backup.store import Dump, Store

PORT = 27917
START_SECONDS = 60.0
SERVER = Path("/opt/mongodb/current/bin/mongod")
TOOLS = Path("/opt/mongodb-tools/current/bin")
# A member may hold indexes of former server versions. Converted, indexes of the same keys count as one, though they
# differ in collation or filter: so that is done only where a dump can't be restored without.
LEGACY = ("--convertLegacyIndexes", "--drop")
PIECE = 1024 * 1024
UNPACKED = 4 * 1024 * 1024  # of a piece that may hold a thousand times its size
# In the store: which collection or database a restore needs of the instance that it starts. A unit's name is too short.
# The restore keeps it locked, so that its instance sees when it is gone.
NOTE = "scratch.json"
UNCHECKED = "unchecked"  # in the note: the order says that there is room
ABANDONED_SECONDS = 2.0
# What the instance that runs was started for, as in the note; it is gone with the server's data.
SERVED = "scratch/served.json"


class Unproven(Exception):
    """The archive could not be restored, or differs from its manifest."""


class Full(Unproven):
    """The disk has no room for the scratch server, which was not started."""


def uri(store: Store) -> str:
    socket = urllib.parse.quote(str(store.root / "scratch" / f"mongodb-{PORT}.sock"), safe="")
    return f"mongodb://{socket}/"


def client(store: Store) -> Any:
    import pymongo  # noqa: PLC0415 - the session that receives does without

    return pymongo.MongoClient(uri(store), directConnection=True, serverSelectionTimeoutMS=5000)


def check(store: Store, dump: Dump) -> None:
    """Check the archive on the disk. Raises Unproven if it is another fleet's, or not the one received."""
    check_fleet(store, dump)
    for _ in _archive(dump):
        pass


def check_fleet(store: Store, dump: Dump) -> None:
    """Raises Unproven if the dump is another fleet's."""
    manifest = dump.manifest
    if manifest.get("fleet") != store.config.fleet or manifest.get("replica_set") != store.config.replica_set:
        raise Unproven(
            f"it is of another fleet: {manifest.get('fleet')}/{manifest.get('replica_set')}, this store is "
            f"{store.config.fleet}/{store.config.replica_set}'s"
        )


def check_room(
    store: Store,
    dump: Dump,
    scope: Scope = EVERYTHING,
    limit: Moment | None = None,
    listed: Sequence[tuple[Moment, Moment, Path]] = (),
) -> None:
    """Raises Full if the disk has no room for a scratch server with what of the dump is in a scope, up to limit."""
    if found := room.obstacle(store, dump, scope, limit, listed):
        raise Full(f"the store is full: {found}")


def _archive(dump: Dump) -> Iterator[bytes]:
    """The archive, piece by piece. Raises Unproven, at its end at the latest, if it is not the one received."""
    assert dump.folder
    checksum = hashlib.sha256()
    try:
        with (dump.folder / "dump.archive.gz").open("rb") as stream:
            while piece := stream.read(PIECE):
                checksum.update(piece)
                yield piece
    except OSError as error:
        raise Unproven(f"its archive can't be read: {error}") from error
    if checksum.hexdigest() != dump.manifest.get("sha256"):
        raise Unproven("its archive is damaged: the checksum is another")


def _unpacked(dump: Dump) -> Iterator[bytes]:
    """The archive, unpacked, in pieces of bounded size. Raises Unproven."""
    unpack = zlib.decompressobj(31)
    try:
        for packed in _archive(dump):
            piece = packed
            while piece:
                yield unpack.decompress(piece, UNPACKED)
                piece = unpack.unconsumed_tail
        yield unpack.flush()
    except zlib.error as error:
        raise Unproven(f"its archive is damaged: {error}") from error


@contextlib.contextmanager
def serving(store: Store, dump: Dump, scope: Scope = EVERYTHING) -> Iterator[list[str]]:
    """Run the scratch server with what of the dump is in a scope; yields the differences from the manifest.

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
        restored = _restore(store, dump, scope)
        if restored.returncode and "index" in restored.stderr:
            restored = _restore(store, dump, scope, *LEGACY)
        if restored.returncode:
            raise Unproven(
                f"mongorestore ended with {restored.returncode}: {' | '.join(restored.stderr.splitlines()[-3:])}"
            )
        with contextlib.closing(client(store)) as connection:
            seen = fingerprint.comparable(dump.manifest, fingerprint.take(connection))
        wanted = fingerprint.from_json(dump.manifest["namespaces"])
        yield fingerprint.differences({name: one for name, one in wanted.items() if scope.holds(name)}, seen)
    finally:
        # Not asked to end: it would first write out what is removed here.
        server.kill()
        server.wait()
        files.clear(folder)


@contextlib.contextmanager
def holding(
    store: Store, dump: Dump, collection: str = "", limit: Moment | None = None, look_for_room: bool = True
) -> Iterator[int]:
    """Run the scratch server with what an order needs of a dump, verified, and brought forward to limit.

    collection: a collection, a database, or "" for all; look_for_room: whether to refuse where the disk seems too
    small. Yields how many changes were replayed.
    Raises Unproven, OSError.
    """
    check_fleet(store, dump) if collection else check(store, dump)
    scope = Scope.of(collection)
    # Once: a segment that arrives meanwhile may bring a rename that was not followed.
    listed = Chain(store.root).names() if limit else []
    if limit and collection:
        with _replaying():
            scope = scope.followed(Chain(store.root).entries(moment_of(dump), limit, listed))
    if look_for_room:
        check_room(store, dump, scope, limit, listed)
    with serving(store, dump, scope) as differences:
        if differences:
            raise Unproven("; ".join(differences[:10]))
        yield forward(store, dump, limit, scope, listed) if limit else 0


def forward(
    store: Store,
    dump: Dump,
    limit: Moment,
    scope: Scope = EVERYTHING,
    listed: Sequence[tuple[Moment, Moment, Path]] = (),
) -> int:
    """Replay the oplog from the dump's moment to just before limit; returns how many changes were applied.

    listed: as of Chain.entries. Raises Unproven.
    """
    since, begun = moment_of(dump), time.monotonic()
    with _replaying(), contextlib.closing(client(store)) as connection:
        changes = replay(connection, Chain(store.root).entries(since, limit, listed), since, scope)
    print(f"{dump.name}: replayed {changes} changes in {time.monotonic() - begun:.2f} s", flush=True)
    return changes


@contextlib.contextmanager
def _replaying() -> Iterator[None]:
    """Raise what the oplog can fail with as Unproven."""
    from pymongo.errors import PyMongoError  # noqa: PLC0415

    try:
        yield
    except (Unreachable, Unreplayable, segment.Damaged, PyMongoError) as error:
        raise Unproven(f"the oplog can't be replayed: {str(error)[:500]}") from error


@contextlib.contextmanager
def noting(store: Store, needed: Mapping[str, str]) -> Iterator[None]:
    """Note what a restore needs of the instance that it starts. Locked until the block ends.

    needed: instance, collection, and UNCHECKED where the order says that there is room.
    """
    note = store.root / NOTE
    # Written by root, read by the store's user.
    files.write(note, json.dumps(needed), 0o644)
    with note.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        try:
            yield
        finally:
            note.unlink(missing_ok=True)


@contextlib.contextmanager
def noted(store: Store, instance: str) -> Iterator[Mapping[str, str]]:
    """Yields what a restore has noted for this instance, {} where there is none.

    A restore that was killed can't end its instance, which would hold up the proofs and any other restore: so this
    process ends as by SIGTERM once the lock of its note is free. A note that nobody keeps locked is not watched.
    """
    with contextlib.ExitStack() as later:
        try:
            note = later.enter_context((store.root / NOTE).open("rb"))
            found = json.loads(note.read())
        except (FileNotFoundError, ValueError):
            found = {}
        if found.get("instance") != instance:
            yield {}
            return
        if not _abandoned(note):
            ended = threading.Event()
            watch = threading.Thread(target=_end_with_its_restore, args=(note, ended), daemon=True)
            watch.start()
            later.callback(watch.join)
            later.callback(ended.set)
        yield found


def _end_with_its_restore(note: IO[bytes], ended: threading.Event) -> None:
    while not ended.wait(ABANDONED_SECONDS):
        if _abandoned(note):
            print("the restore that this server is for was killed: the server ends, and others go on", flush=True)
            os.kill(os.getpid(), signal.SIGTERM)
            return


def _abandoned(note: IO[bytes]) -> bool:
    """Whether no restore keeps this note locked."""
    try:
        fcntl.flock(note, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(note, fcntl.LOCK_UN)
    return True


def _restore(store: Store, dump: Dump, scope: Scope, *more: str) -> subprocess.CompletedProcess[str]:
    """Restore with the oplog; documents that are older than their collection's validator are as good as the others.

    Raises Unproven.
    """
    assert dump.folder
    source = [f"--archive={dump.folder / 'dump.archive.gz'}", "--gzip"] if scope == EVERYTHING else ["--archive"]
    command = [
        str(TOOLS / "mongorestore"), f"--uri={uri(store)}", *source, "--oplogReplay",
        "--numInsertionWorkersPerCollection=2", "--bypassDocumentValidation", *more,
    ]  # fmt: skip
    if scope == EVERYTHING:
        return subprocess.run(command, capture_output=True, text=True, check=False)
    whole = False
    with tempfile.TemporaryFile("w+", dir=store.root / "scratch") as said:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said, stderr=said) as process:
            assert process.stdin
            try:
                # One that has failed reads no further; why is in what it reports.
                with contextlib.suppress(BrokenPipeError), process.stdin as target:
                    for part in narrow.narrowed(_unpacked(dump), scope):
                        target.write(part)
                    whole = True
            except narrow.Malformed as error:
                raise Unproven(f"its archive can't be read: {error}") from error
            except BaseException:
                process.kill()
                raise
        said.seek(0)
        return subprocess.CompletedProcess(command, process.returncode or int(not whole), "", said.read())


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
