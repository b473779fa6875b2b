"""Counts and hashes of a database's collections, at one moment.

A collection's hash is the sum of its documents' SHA-256, modulo 2 to the 256th: it depends on every byte of every
document and on nothing else, so a member, a scratch server and a restored fleet give the same, whatever their order.
For the same reason several processes may hash parts of a large one: its batches go to them while the next is read.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

SYSTEM_DATABASES = ("admin", "config", "local")
# The manifest's format from which on stored functions (system.js) are among the collections.
FORMAT = 2
FUNCTIONS = "system.js"
PROCESSES = 4  # that hash at the same time, at most
ALONE = 32 * 1024 * 1024  # bytes of a collection that are hashed here: to start the processes takes longer
LARGE = 1024 * 1024  # bytes of a batch that is worth the way to one of them


@dataclass(frozen=True)
class Collection:
    """documents, bytes and sha256 are None where the server can't read the moment: in capped ones and time series."""

    documents: int | None
    bytes: int | None
    sha256: str | None
    indexes: list[str]

    @property
    def series(self) -> bool:
        """Whether it is a time series: only these are recorded without an index."""
        return not self.indexes

    @property
    def capped(self) -> bool:
        """Whether it is a capped collection, in a manifest."""
        return self.documents is None and not self.series


class Digest:
    """Running count and hash of documents, fed as batches of BSON."""

    def __init__(self) -> None:
        self.documents = 0
        self.bytes = 0
        self._sum = 0

    def feed(self, batch: bytes) -> None:
        self.add(len(batch), *hashed(batch))

    def add(self, size: int, documents: int, total: int) -> None:
        """Add a batch of this many bytes; documents and total: of `hashed`."""
        self.documents += documents
        self.bytes += size
        self._sum = (self._sum + total) % (1 << 256)

    def hexdigest(self) -> str:
        return f"{self._sum:064x}"


def hashed(batch: bytes) -> tuple[int, int]:
    """The documents in a batch of BSON, and the sum of their SHA-256."""
    at, end, documents, total, view = 0, len(batch), 0, 0, memoryview(batch)
    sha256, number = hashlib.sha256, int.from_bytes  # once: there may be billions of documents
    while at < end:
        after = at + number(view[at : at + 4], "little")
        total += number(sha256(view[at:after]).digest(), "big")
        documents += 1
        at = after
    return documents, total


def digest(
    batches: Iterable[bytes], processes: Executor, ahead: int, read: Callable[[int], object], alone: int = ALONE
) -> Digest:
    """The digest of all batches.

    ahead: batches that may wait to be hashed; read: called with the size of each; alone: bytes that are hashed here.
    """
    found, waiting, size = Digest(), deque[tuple[int, Future[tuple[int, int]]]](), 0
    for batch in batches:
        read(len(batch))
        size += len(batch)
        if len(batch) < LARGE or size <= alone:
            found.feed(batch)
            continue
        waiting.append((len(batch), processes.submit(hashed, batch)))
        if len(waiting) > ahead:
            sent, one = waiting.popleft()
            found.add(sent, *one.result())
    for sent, one in waiting:
        found.add(sent, *one.result())
    return found


def internal(title: str) -> bool:
    """Whether a collection of this name is internal to the server, not data."""
    return title.startswith("system.") and title != FUNCTIONS


def take(
    client: Any,
    names: Iterable[str] | None = None,
    moment: Any = None,
    read: Callable[[int], object] = lambda size: None,
) -> dict[str, Collection]:
    """Fingerprints by namespace. client: a pymongo client of one server; moment: a Timestamp, or None for now.

    names: the namespaces to read; None for all but those of system databases, views and system collections. read:
    called with the number of bytes of each batch. Raises pymongo's errors, among them OperationFailure 239 when the
    server no longer has the moment, and 246 when a collection was made or indexed since.
    """
    cores = min(len(os.sched_getaffinity(0)), PROCESSES)
    # Not forked: the driver has threads. None is started before there is a large collection.
    with ProcessPoolExecutor(cores, multiprocessing.get_context("spawn")) as processes:
        return _take(client, names, moment, lambda batches: digest(batches, processes, cores + 1, read))


def _take(
    client: Any, names: Iterable[str] | None, moment: Any, digested: Callable[[Iterable[bytes]], Digest]
) -> dict[str, Collection]:
    wanted = None if names is None else set(names)
    databases = client.list_database_names() if wanted is None else sorted({name.split(".", 1)[0] for name in wanted})
    found: dict[str, Collection] = {}
    for name in databases:
        if name in SYSTEM_DATABASES:
            continue
        database = client[name]
        for shown in database.list_collections():
            title = shown["name"]
            if shown.get("type", "collection") == "view" or internal(title):
                continue
            if wanted is not None and f"{name}.{title}" not in wanted:
                continue
            series = shown.get("type") == "timeseries"
            indexes = [] if series else sorted(database[title].index_information())
            if moment is not None and (shown.get("options", {}).get("capped") or series):
                found[f"{name}.{title}"] = Collection(None, None, None, indexes)
                continue
            with client.start_session(snapshot=moment is not None) as session:
                if moment is not None:
                    # The driver offers no public way to name the moment of a snapshot session.
                    session._snapshot_time = moment
                sum_of = digested(database[title].find_raw_batches({}, session=session))
            found[f"{name}.{title}"] = Collection(sum_of.documents, sum_of.bytes, sum_of.hexdigest(), indexes)
    return found


def to_json(found: Mapping[str, Collection]) -> dict[str, Any]:
    return {name: asdict(one) for name, one in sorted(found.items())}


def from_json(value: Mapping[str, Any]) -> dict[str, Collection]:
    """Collections from a manifest. Raises TypeError when it has other fields."""
    return {name: Collection(**one) for name, one in value.items()}


def comparable(manifest: Mapping[str, Any], seen: Mapping[str, Collection]) -> dict[str, Collection]:
    """The collections seen, without those that the manifest's format does not cover."""
    if int(manifest.get("format", FORMAT)) >= FORMAT:
        return dict(seen)
    return {name: one for name, one in seen.items() if not name.endswith(f".{FUNCTIONS}")}


def differences(wanted: Mapping[str, Collection], seen: Mapping[str, Collection]) -> list[str]:
    """Differences between seen and wanted, one sentence each; empty if equal."""
    found = [f"{name} is missing" for name in wanted if name not in seen]
    found += [f"{name} is not in the manifest" for name in seen if name not in wanted]
    for name, one in wanted.items():
        other = seen.get(name)
        if other is None:
            continue
        if one.documents is not None and one.documents != other.documents:
            found.append(f"{name} has {other.documents} documents instead of {one.documents}")
        elif one.sha256 is not None and one.sha256 != other.sha256:
            found.append(f"{name} has {other.documents} documents as it should, but other content")
        if one.indexes != other.indexes:
            found.append(f"{name} has the indexes {other.indexes} instead of {one.indexes}")
    return found


def totals(found: Mapping[str, Collection]) -> tuple[int, int]:
    """Documents and bytes in all."""
    return sum(one.documents or 0 for one in found.values()), sum(one.bytes or 0 for one in found.values())
