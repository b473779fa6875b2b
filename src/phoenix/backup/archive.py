"""Read the moment of a dump from its archive while it streams past.

mongodump writes the captured oplog last, as blocks of the namespace `.oplog` in its archive: a terminator, a header,
the entries, a terminator. The last entry's time-stamp is the moment that the dump, restored with its oplog, stands for.
"""

from __future__ import annotations

import re
import struct
import zlib

TERMINATOR = b"\xff\xff\xff\xff"
# A block's header for the oplog: {db: "", collection: "oplog", EOF: false or true, CRC: …}.
HEADER = re.compile(
    re.escape(TERMINATOR)
    + rb"[\x30-\x40]\x00\x00\x00\x02db\x00\x01\x00\x00\x00\x00"
    + rb"\x02collection\x00\x06\x00\x00\x00oplog\x00\x08EOF\x00(.)",
    re.DOTALL,
)
HEADER_MAX = 128
DOCUMENT_MAX = 17 * 1024 * 1024

Moment = tuple[int, int]  # seconds, ordinal


class OplogEnd:
    """Feed it the gzip archive piece by piece; `moment` is then the last oplog entry's time-stamp.

    bytes: of what was fed, unpacked.
    Raises zlib.error when the archive is not a valid gzip stream.
    """

    def __init__(self) -> None:
        self._zip = zlib.decompressobj(31)
        self._rest = b""
        self._inside = False
        self.moment: Moment | None = None
        self.bytes = 0

    def feed(self, piece: bytes) -> None:
        while piece:
            unpacked = self._zip.decompress(piece, 4 * 1024 * 1024)
            self.bytes += len(unpacked)
            self._rest += unpacked
            self._walk()
            piece = self._zip.unconsumed_tail

    def close(self) -> None:
        """Finish reading. Raises ValueError when the archive is cut off or holds no oplog."""
        self._rest += self._zip.flush()
        self._walk()
        while self._inside:
            # The supposed block never ended: search on within it.
            self._inside = False
            self._rest = self._rest[1:]
            self._walk()
        if not self._zip.eof:
            raise ValueError("the archive is cut off")
        if self.moment is None:
            raise ValueError("the archive holds no oplog: the dump stands for no single moment")

    def _walk(self) -> None:
        """Take what is complete off the buffer."""
        at = 0
        while True:
            if not self._inside:
                found = HEADER.search(self._rest, at)
                if not found:
                    at = max(at, len(self._rest) - HEADER_MAX)
                    break
                length = struct.unpack_from("<I", self._rest, found.start() + 4)[0]
                if found.start() + 4 + length > len(self._rest):
                    at = found.start()
                    break
                at = found.start() + 4 + length
                self._inside = found[1] == b"\0"
                continue
            if len(self._rest) - at < 4:
                break
            length = struct.unpack_from("<I", self._rest, at)[0]
            if not 5 <= length <= DOCUMENT_MAX:
                self._inside = False  # the block's end
                continue
            if at + length > len(self._rest):
                break
            moment = moment_of(self._rest[at : at + length])
            if moment is None:
                # The header was part of a document, so this is not the oplog.
                self._inside = False
                continue
            self.moment = moment
            at += length
        self._rest = self._rest[at:]


# Bytes of BSON's values by their kind; those with a length of their own are below.
FIXED = {0x01: 8, 0x06: 0, 0x07: 12, 0x08: 1, 0x09: 8, 0x0A: 0, 0x10: 4, 0x11: 8, 0x12: 8, 0x13: 16, 0x7F: 0, 0xFF: 0}


def moment_of(entry: bytes) -> Moment | None:
    """The timestamp of an oplog entry; None if it is not one, or not a BSON document."""
    at, moment = 4, None
    try:
        while entry[at]:
            kind = entry[at]
            end = entry.index(b"\0", at + 1)
            name, at = entry[at + 1 : end], end + 1
            if kind == 0x11 and name == b"ts":
                ordinal, seconds = struct.unpack_from("<II", entry, at)
                moment = (seconds, ordinal)
            if kind in FIXED:
                at += FIXED[kind]
            elif kind in (0x02, 0x0D, 0x0E):
                at += 4 + int(struct.unpack_from("<I", entry, at)[0])
            elif kind in (0x03, 0x04):
                at += int(struct.unpack_from("<I", entry, at)[0])
            elif kind == 0x05:
                at += 5 + int(struct.unpack_from("<I", entry, at)[0])
            else:
                return None
    except (IndexError, ValueError, struct.error):
        return None
    return moment if at == len(entry) - 1 else None
