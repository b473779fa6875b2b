"""Narrow mongodump's archive to a scope while it streams to mongorestore, which can't replay an oplog in part.

An archive is its prelude (a magic number, the tools' versions, each collection's metadata) and blocks: a header with
the namespace, documents, a terminator. The last block of a namespace is empty and has the checksum of its documents.
https://github.com/mongodb/mongo-tools/tree/100.7.0/common/archive
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterable, Iterator

from phoenix.backup.archive import DOCUMENT_MAX, TERMINATOR
from phoenix.backup.scope import Scope

MAGIC = b"\x6d\xe2\x99\x81"
END = 0xFFFFFFFF
OPLOG = ("", "oplog")
LENGTH = struct.Struct("<I")


class Malformed(ValueError):
    """This is not an archive of mongodump."""


def _table() -> list[int]:
    table = []
    for byte in range(256):
        rest = byte
        for _ in range(8):
            rest = rest >> 1 ^ (0xC96C5795D7870F42 if rest & 1 else 0)
        table.append(rest)
    return table


TABLE = _table()


def crc64(content: bytes, before: int = 0) -> int:
    """The archive's checksum (CRC-64 of ECMA-182) of content that follows what has the checksum before."""
    native = native_crc64()
    return native(content, len(content), before) if native else plain_crc64(content, before)


@functools.cache
def native_crc64() -> Callable[[bytes, int, int], int] | None:
    """liblzma's: the checksum of .xz is the same. dpkg needs this library, so that it is on every Debian host."""
    try:
        import ctypes  # noqa: PLC0415 - only the restore of a part needs it

        found = ctypes.CDLL("liblzma.so.5").lzma_crc64
    except (ImportError, OSError, AttributeError, MemoryError):  # the last where a sandbox forbids what ctypes prepares
        return None
    found.argtypes, found.restype = (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64), ctypes.c_uint64
    return found


def plain_crc64(content: bytes, before: int = 0) -> int:
    """The same without a library: a few megabytes in a second."""
    table, crc = TABLE, before ^ 0xFFFFFFFFFFFFFFFF
    for byte in content:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFFFFFFFFFF


class _Reader:
    """The parts of an archive, in order, out of pieces of any size."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._held, self._at = b"", 0

    def more(self) -> bool:
        """Whether anything is left."""
        return self._at < len(self._held) or self._fill()

    def take(self, length: int) -> bytes:
        self._need(length)
        self._at += length
        return self._held[self._at - length : self._at]

    def document(self) -> bytes | None:
        """The next document; None: a terminator, which is taken as well."""
        self._need(4)
        (length,) = LENGTH.unpack_from(self._held, self._at)
        if length == END:
            self._at += 4
            return None
        if not 5 <= length <= DOCUMENT_MAX:
            raise Malformed(f"a document of {length} bytes")
        return self.take(length)

    def runs(self) -> Iterator[bytes]:
        """The documents up to the terminator, many at a time."""
        while True:
            held, at, end, unpack = self._held, self._at, len(self._held) - 4, LENGTH.unpack_from
            while at <= end:
                (length,) = unpack(held, at)
                if length > DOCUMENT_MAX or length < 5 or at + length > end + 4:
                    break
                at += length
            if at > self._at:
                run, self._at = held[self._at : at], at
                yield run
            if (one := self.document()) is None:
                return
            yield one

    def _need(self, length: int) -> None:
        while len(self._held) - self._at < length:
            if not self._fill():
                raise Malformed("it is cut off")

    def _fill(self) -> bool:
        piece = next((piece for piece in self._pieces if piece), b"")
        self._held, self._at = self._held[self._at :] + piece, 0
        return bool(piece)


def narrowed(pieces: Iterable[bytes], scope: Scope) -> Iterator[bytes]:
    """An archive with what a scope needs. pieces: of the whole one, unpacked. Raises Malformed."""
    from bson.errors import BSONError  # noqa: PLC0415 - the session that receives does without

    try:
        yield from _narrowed(pieces, scope)
    except (BSONError, LookupError, TypeError, AttributeError) as error:
        raise Malformed(f"a document is damaged: {error!r}") from error


def _narrowed(pieces: Iterable[bytes], scope: Scope) -> Iterator[bytes]:
    import bson  # noqa: PLC0415 - as above

    def place(document: bytes) -> tuple[str, str]:
        found = bson.decode(document)
        return found["db"], found["collection"]

    def wanted(database: str, title: str) -> bool:
        return (database, title) == OPLOG or scope.holds(f"{database}.{title}")

    reader, checksum = _Reader(pieces), 0
    if reader.take(4) != MAGIC:
        raise Malformed("another magic number")
    yield MAGIC
    yield reader.document() or b""
    while (document := reader.document()) is not None:
        if wanted(*place(document)):
            yield document
    yield TERMINATOR
    while reader.more():
        header = reader.document()
        if header is None:
            raise Malformed("a block without a header")
        where = place(header)
        kept = wanted(*where)
        if kept and where == OPLOG:
            entries = b"".join(_parts(reader.runs(), scope))
            checksum = crc64(entries, checksum)
            found = bson.decode(header)
            if found["EOF"]:
                found["CRC"] = bson.Int64(checksum - (1 << 64) if checksum >> 63 else checksum)
            yield bson.encode(found)
            yield entries
        else:
            if kept:
                yield header
            for run in reader.runs():
                if kept:
                    yield run
        if kept:
            yield TERMINATOR


def _parts(runs: Iterable[bytes], scope: Scope) -> Iterator[bytes]:
    """What of the oplog's entries concerns the scope."""
    import bson  # noqa: PLC0415 - as above
    from bson.raw_bson import RawBSONDocument  # noqa: PLC0415 - as above

    for run in runs:
        at = 0
        while at < len(run):
            (length,) = LENGTH.unpack_from(run, at)
            entry = RawBSONDocument(run[at : at + length])
            at += length
            part = scope.part(entry)
            if part is entry:  # as it is
                yield run[at - length : at]
            elif part is not None:
                yield bson.encode(part)
