"""Room for the scratch server on the store's disk, which other parts of its host share."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from phoenix.backup import fingerprint
from phoenix.backup.archive import Moment
from phoenix.backup.members import MARGIN
from phoenix.backup.oplog import segment
from phoenix.backup.oplog.chain import Chain, moment_of
from phoenix.backup.scope import EVERYTHING, Scope
from phoenix.backup.store import Dump, Store

# MongoDB allocates a journal of three files of 100 MiB when it starts, whatever it will hold.
JOURNAL = 300 * 1024 * 1024
# Bytes of documents for each byte of an archive, where nobody has counted them: 301 MB were measured in 108 MB.
PACKED = 3


def raw(dump: Dump, scope: Scope = EVERYTHING) -> int:
    """Pure: bytes of the documents in a scope of a dump.

    What was counted is known. The rest is what the size of the archive leaves for it: collections that no member can
    read at the dump's moment, before the proof has counted them, and time series, which are counted unpacked and lie
    packed on the disk.
    """
    spaces = dump.manifest.get("namespaces", {})
    manifest, found = fingerprint.from_json(spaces), fingerprint.from_json({**spaces, **dump.counted})
    size = int(dump.manifest.get("size", 0))
    rest = max(PACKED * size - fingerprint.totals(manifest)[1], size)
    held = [name for name in manifest if scope.holds(name)]
    known = sum(found[name].bytes or 0 for name in held if not manifest[name].series)
    series = sum(found[name].bytes or 0 for name in held if manifest[name].series)
    uncounted = any(found[name].bytes is None for name in held)
    return known + (rest if uncounted else min(rest, series))


def replayed(store: Store, dump: Dump, limit: Moment, listed: Sequence[tuple[Moment, Moment, Path]] = ()) -> int:
    """Bytes of the oplog's entries between a dump and limit, in a scope or not. listed: as of Chain.names.

    What they add to the documents is no more.
    """
    since, segments = moment_of(dump), listed or Chain(store.root).names()
    return sum(segment.size(path) for first, last, path in segments if first < limit and last > since)


def available(store: Store) -> int:
    """Bytes free on the store's disk, with those of a scratch server that ends, or has ended, before the next one."""
    found = store.free()
    for folder, _, names in os.walk(store.root / "scratch"):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # it is being removed
                found += (Path(folder) / name).stat().st_blocks * 512
    return found


def obstacle(
    store: Store,
    dump: Dump,
    scope: Scope = EVERYTHING,
    limit: Moment | None = None,
    listed: Sequence[tuple[Moment, Moment, Path]] = (),
) -> str:
    """Why a scratch server with what of a dump is in a scope does not fit on the disk, or "". limit: of a replay."""
    documents = raw(dump, scope) + (replayed(store, dump, limit, listed) if limit else 0)
    needed = store.config.min_free + JOURNAL + int(documents * MARGIN)
    free = available(store)
    if free >= needed:
        return ""
    return (
        f"the store's disk has {free} bytes free at {store.root}, and the scratch server needs {needed}: up to "
        f"{needed - store.config.min_free} for {documents} bytes of documents, and {store.config.min_free} that are to "
        "stay free (backup_min_free_mb). Free space there, or enlarge the disk"
    )
