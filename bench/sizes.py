"""How long a backup and a restore take by the size of the data: a real server of its own, without a fleet.

usage: python -m bench.sizes [--restore] [--bare] GIGABYTES ...

Of each size it prints seconds and MB/s, of the bytes of the documents; last, what 500 GB would take at the rates of the
largest size measured. Needs on /tmp (or TMPDIR) three times the largest size; with --restore, five times.
"""

from __future__ import annotations

import argparse
import json
import random
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import bson
from bson.raw_bson import RawBSONDocument

from lab.ports import free_port
from phoenix.backup import fingerprint, prove, scratch, store, watch
from tests.harness.real_database import Fleet, found, one_member, unpacked

MB = 10**6
SMALL, LARGE = 250, 2000  # bytes of a document; there are as many bytes of each
INSERTED = 2000  # documents at a time
TEXTS = 5000
MODEL = 500_000 * MB
BARE = ("bare mongodump before", "bare mongodump after")
WORDS = ("order", "customer", "street", "invoice", "paid", "shipped", "returned", "quantity", "price", "total", "note")


class Step(NamedTuple):
    """What was done, and for how many bytes of documents."""

    name: str
    seconds: float
    bytes: float

    def at(self, size: float) -> float:
        """Seconds that it takes for so many bytes at the same rate."""
        return self.seconds * size / self.bytes


def texts(size: int) -> list[bytes]:
    """Documents of so many bytes, from the field `text` on: words and numbers, which a dump packs to half."""
    dice = random.Random(size)
    made = []
    for _ in range(TEXTS):
        text = " ".join(dice.choice(WORDS) if dice.random() < 0.6 else f"{dice.getrandbits(40):x}" for _ in range(size))
        made.append(bson.encode({"text": text[: size - 32]})[4:])
    return made


def fill(client: Any, size: float) -> None:
    """Bring two collections, each with an index, to so many bytes together."""

    def insert(title: str, each: int) -> None:
        collection, rest = client.sizes[title], texts(each)
        for first in range(collection.estimated_document_count(), int(size / 2 / each), INSERTED):
            numbers = range(first, first + INSERTED)
            heads = (struct.pack("<i5si3si", each, b"\x10_id\0", one, b"\x10n\0", one % 1000) for one in numbers)
            collection.insert_many(
                [RawBSONDocument(head + rest[one % TEXTS]) for one, head in zip(numbers, heads, strict=True)],
                ordered=False,
            )
        collection.create_index("n")

    with ThreadPoolExecutor() as pool:
        list(pool.map(insert, ("small", "large"), (SMALL, LARGE)))


def bare(fleet: Fleet) -> float:
    """Seconds of a mongodump as an operator would make it, packed into a file."""
    archive = fleet.root / "bare.gz"
    began = time.monotonic()
    subprocess.run(
        [scratch.TOOLS / "mongodump", "--quiet", f"--config={fleet.sender.password}", "--username=admin",
         "--authenticationDatabase=admin", f"--port={fleet.port}", "--oplog", "--gzip", f"--archive={archive}"],
        check=True,
    )  # fmt: skip
    taken = time.monotonic() - began
    archive.unlink()
    return taken


def measure(fleet: Fleet, size: float, restore: bool, compare: bool) -> Iterator[Step]:
    """Yield each step once it is done."""
    began = time.monotonic()
    fill(fleet.client, size)
    yield Step("filled", time.monotonic() - began, size)
    before = bare(fleet) if compare else 0.0
    name = f"20261124T{int(size / MB):06d}Z-db1"
    fleet.take(name)
    manifest = json.loads((fleet.store.root / "dumps" / name / "manifest.json").read_text())
    volume = fingerprint.totals(fingerprint.from_json(manifest["namespaces"]))[1]
    if compare:
        # Before and after the dump, as other work of the machine comes and goes.
        yield Step(BARE[0], before, volume)
    yield Step("dumped", manifest["dump_seconds"], volume)
    if compare:
        yield Step(BARE[1], bare(fleet), volume)
    yield Step("moment read and hashed", manifest["hash_seconds"], volume)
    began = time.monotonic()
    prove.run(fleet.store)
    (dump,) = [one for one in fleet.store.dumps() if one.name == name]
    assert dump.state == "good", dump.reason
    yield Step("verified", time.monotonic() - began, volume)
    if restore:
        began = time.monotonic()
        fleet.restore(dump=name)
        yield Step("restored", time.monotonic() - began, volume)
        for title in fleet.client.sizes.list_collection_names(filter={"name": {"$regex": "^phoenix_aside"}}):
            fleet.client.sizes.drop_collection(title)


def model(steps: Sequence[Step]) -> list[str]:
    """What 500 GB take at these rates, and the limits that this reaches."""
    taken = {step.name: step.at(MODEL) for step in steps if step.name not in ("filled", *BARE)}
    lines = [f"{MODEL / MB / 1000:.0f} GB: {name} in {seconds / 3600:.1f} h" for name, seconds in taken.items()]
    for name, limit, what in (
        ("moment read and hashed", 300.0, "the server's own minSnapshotHistoryWindowInSeconds"),
        ("dumped", store.Config.longest, "backup_longest_hours"),
        # Twice: by itself, and as the night before with the oplog since.
        ("verified", store.Config.proof / 2, "half of backup_proof_hours"),
    ):
        rate = MODEL / taken[name] * watch.LIMIT_SHARE
        lines.append(f"{name}: reported from {rate * limit / MB / 1000:.0f} GB on, {watch.LIMIT_SHARE:.0%} of {what}")
    return lines


@contextmanager
def trial() -> Iterator[Fleet]:
    """A member and a store, with the tools from their archives."""
    with unpacked() as programs, one_member(programs) as fleet:
        scratch.TOOLS = found(programs, "mongodump").parent
        scratch.SERVER, scratch.PORT = found(programs, "mongod"), free_port()
        yield fleet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gigabytes", nargs="+", type=float)
    parser.add_argument("--restore", action="store_true", help="into the running server, too")
    parser.add_argument("--bare", action="store_true", help="compare with a mongodump into a file")
    options = parser.parse_args()
    steps: list[Step] = []
    with trial() as fleet:
        for gigabytes in sorted(options.gigabytes):
            steps = []
            for step in measure(fleet, gigabytes * 1000 * MB, options.restore, options.bare):
                steps.append(step)
                rate = step.bytes / MB / step.seconds
                print(f"{gigabytes:g} GB: {step.name} in {step.seconds:.1f} s, {rate:.0f} MB/s", flush=True)
    print("\n".join(model(steps)))


if __name__ == "__main__":
    main()
