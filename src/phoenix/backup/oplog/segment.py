"""A segment: consecutive entries of the oplog in one file, which names its predecessor.

A line of JSON (the header), then the entries as a gzip stream of BSON. The first entry repeats the last one of the
segment before: so two segments are consecutive if they share an entry, and no other evidence is needed.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from phoenix.backup import archive
from phoenix.backup.archive import Moment

NAME = re.compile(r"([0-9]+)\.([0-9]+)-([0-9]+)\.([0-9]+)")
# An entry can be a little larger than the largest document; a segment closes once it holds more than its limit.
CONTENT_MAX = 2 * archive.DOCUMENT_MAX


class Damaged(ValueError):
    """A segment is not what its header describes, or does not follow the one before."""


@dataclass(frozen=True)
class Header:
    """previous: the SHA-256 of the whole segment before, or empty at the beginning of a range."""

    first: Moment
    last: Moment
    entries: int
    sha256: str
    previous: str

    @property
    def name(self) -> str:
        return name(self.first, self.last)


def name(first: Moment, last: Moment) -> str:
    return f"{first[0]}.{first[1]}-{last[0]}.{last[1]}"


def ends(title: str) -> tuple[Moment, Moment] | None:
    """The first and last moment of a segment by its file's name; None for other files."""
    found = NAME.fullmatch(title)
    if not found:
        return None
    return (int(found[1]), int(found[2])), (int(found[3]), int(found[4]))


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def split(batch: bytes) -> Iterator[bytes]:
    """The documents in concatenated BSON. Raises Damaged."""
    at, view = 0, memoryview(batch)
    while at < len(batch):
        length = int.from_bytes(view[at : at + 4], "little")
        if length < 5 or at + length > len(batch):
            raise Damaged("the entries end in the middle")
        yield bytes(view[at : at + length])
        at += length


def pack(entries: Iterable[bytes], previous: str) -> tuple[Header, bytes]:
    """Entries as a segment: its header, and the file's content. Raises Damaged for what is no oplog entry."""
    listed = list(entries)
    body = gzip.compress(b"".join(listed), 6, mtime=0)
    header = Header(moment(listed[0]), moment(listed[-1]), len(listed), digest(body), previous)
    return header, json.dumps(asdict(header)).encode() + b"\n" + body


def unpack(content: bytes) -> tuple[Header, list[bytes]]:
    """The header and the entries, each of which is checked. Raises Damaged."""
    line, _, body = content.partition(b"\n")
    try:
        read = json.loads(line)
        header = Header(
            (int(read["first"][0]), int(read["first"][1])), (int(read["last"][0]), int(read["last"][1])),
            int(read["entries"]), str(read["sha256"]), str(read["previous"]),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise Damaged(f"the segment has no header: {error!r}") from error
    if digest(body) != header.sha256:
        raise Damaged(f"the segment {header.name} is damaged: the checksum is another")
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(body)) as packed:
            plain = packed.read(CONTENT_MAX + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise Damaged(f"the segment {header.name} can't be unpacked: {error}") from error
    if len(plain) > CONTENT_MAX:
        raise Damaged(f"the segment {header.name} holds more than {CONTENT_MAX} bytes")
    entries = list(split(plain))
    moments = [moment(entry) for entry in entries]
    if len(entries) != header.entries or not entries or (moments[0], moments[-1]) != (header.first, header.last):
        raise Damaged(f"the segment {header.name} holds other entries than its header describes")
    if any(later <= earlier for earlier, later in zip(moments, moments[1:])):
        raise Damaged(f"the entries of the segment {header.name} are not in order")
    return header, entries


def size(path: Path) -> int:
    """Bytes of the entries in a segment's file, by the last four bytes, with which gzip ends.

    0 where it says nothing that can be so, or has been removed: what reads the segment finds that.
    """
    try:
        with path.open("rb") as file:
            file.seek(-4, os.SEEK_END)
            found = int.from_bytes(file.read(4), "little")
    except OSError:
        return 0
    return found if found <= CONTENT_MAX else 0


def moment(entry: bytes) -> Moment:
    """The time-stamp of an oplog entry. Raises Damaged."""
    found = archive.moment_of(entry)
    if found is None:
        raise Damaged("the segment holds something that is no oplog entry")
    return found
