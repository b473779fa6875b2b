"""An archive is narrowed to what is restored, and damage in it is not passed on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import bson
import pytest

from phoenix.backup import narrow
from phoenix.backup.archive import TERMINATOR
from phoenix.backup.narrow import MAGIC, Malformed, crc64, narrowed, plain_crc64
from phoenix.backup.scope import Scope

# Documents that hold what separates blocks.
ROWS = [bson.encode({"_id": number, "x": TERMINATOR * 3}) for number in range(50)]
OPLOG = [
    bson.encode({"op": "i", "ns": f"app.{title}", "o": {"_id": number}})
    for number, title in enumerate(("items", "other", "items"))
]

EMPTY = bson.encode({"op": "c", "ns": "app.$cmd", "o": {}})


def signed(value: int) -> bson.Int64:
    return bson.Int64(value - (1 << 64) if value >> 63 else value)


def block(database: str, title: str, rows: Iterable[bytes], end: bool = False, crc: int = 0) -> bytes:
    header = {"db": database, "collection": title, "EOF": end, "CRC": signed(crc)}
    return bytes(bson.encode(header)) + b"".join(rows) + TERMINATOR


def archive(titles: tuple[str, ...], oplog: list[bytes]) -> bytes:
    """As mongodump writes it: blocks of several collections in turn, each with an end of its own."""
    found: bytes = MAGIC + bson.encode({"version": "0.1"})
    places = [("app", title) for title in titles] + [("", "oplog")]
    found += b"".join(bson.encode({"db": database, "collection": title}) for database, title in places) + TERMINATOR
    for half in (ROWS[:20], ROWS[20:]):
        found += b"".join(block("app", title, half) for title in titles)
    found += b"".join(block("app", title, (), True, crc64(b"".join(ROWS))) for title in titles)
    return found + block("", "oplog", oplog) + block("", "oplog", (), True, crc64(b"".join(oplog)))


def pieces(content: bytes, size: int) -> list[bytes]:
    return [content[at : at + size] for at in range(0, len(content), size)]


def test_the_checksum_is_the_archives() -> None:
    # Zeros, as a library that takes texts would end at the first.
    known = {b"123456789": 0x995DC9BBDF1939FA, b"": 0, b"\0" * 9: plain_crc64(b"\0" * 9)}
    for checksum in (crc64, plain_crc64):
        assert {content: checksum(content) for content in known} == known
        assert checksum(b"6789", checksum(b"12345")) == known[b"123456789"]


def test_the_checksum_is_the_librarys_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(narrow, "native_crc64", lambda: lambda content, size, before: size + before)
    assert crc64(b"abc", 5) == 8
    monkeypatch.undo()
    assert narrow.native_crc64(), "dpkg needs the library"
    monkeypatch.setattr(narrow, "native_crc64", lambda: None)
    assert crc64(b"123456789") == 0x995DC9BBDF1939FA


@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
def test_only_what_is_wanted_is_left_whatever_the_pieces(size: int) -> None:
    whole = archive(("items", "other", "system.buckets.items"), OPLOG)
    assert b"".join(narrowed(pieces(whole, size), Scope())) == whole
    left = archive(("items", "system.buckets.items"), [OPLOG[0], OPLOG[2]])
    assert b"".join(narrowed(pieces(whole, size), Scope.of("app.items"))) == left
    nothing = b"".join(narrowed(pieces(whole, size), Scope.of("else")))
    assert nothing == archive((), [])


def test_empty_pieces_are_not_the_end() -> None:
    whole = archive(("items",), OPLOG)
    assert b"".join(narrowed([b"", *(one for piece in pieces(whole, 100) for one in (piece, b""))], Scope())) == whole


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda whole: b"x" + whole[1:], "magic"),
        (lambda whole: whole[:-6], "cut off"),
        (lambda whole: whole + TERMINATOR, "without a header"),
        (lambda whole: whole + b"\x01\0\0\0", "a document of 1 bytes"),
        (lambda whole: whole.replace(b"\x02collection", b"\x02collectiom"), "damaged: KeyError"),
        (lambda whole: whole.replace(b"\x02db", b"\x7edb"), "damaged: InvalidBSON"),
        (lambda whole: whole.replace(b"\x02op", b"\x7eop"), "damaged: InvalidBSON"),
        (lambda whole: whole.replace(b"\x02op", b"\x02oq"), "damaged: KeyError"),
        (lambda whole: whole + block("", "oplog", [EMPTY]), "damaged: KeyError"),
    ],
)
def test_what_is_no_archive_is_reported(harm: Any, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        list(narrowed([harm(archive(("items",), OPLOG))], Scope.of("app.items")))
