"""The moment of a dump, as its archive states it."""

from __future__ import annotations

import gzip

import pytest

from phoenix.backup import archive
from tests.unit.backup.builders import bson

END = archive.TERMINATOR


def block(collection: str, *documents: bytes) -> bytes:
    return (
        bson(db="" if collection == "oplog" else "app", collection=collection, EOF=False, CRC=0)
        + b"".join(documents)
        + END
    )


def archived(*blocks: bytes) -> bytes:
    return gzip.compress(b"magic" + bson(concurrent=1) + END + b"".join(blocks))


OPLOG = block(
    "oplog",
    bson(lsid={"ts": (9, 9)}, op="i", o={"ts": (8, 8), "x": 1}, ts=(5, 1)),
    bson(op="u", o={"ts": (9, 9)}, ts=(5, 2), wall=3),
) + bson(db="", collection="oplog", EOF=True, CRC=77) + END  # fmt: skip


@pytest.mark.parametrize("step", [1, 7, 64, 100000])
def test_the_moment_is_the_last_entry_of_the_oplog(step: int) -> None:
    packed = archived(block("items", bson(ts=(99, 99)), bson(x=1)), OPLOG)
    end = archive.OplogEnd()
    for at in range(0, len(packed), step):
        end.feed(packed[at : at + step])
    end.close()
    assert end.bytes == len(gzip.decompress(packed))
    assert end.moment == (5, 2)


def test_a_document_that_looks_like_an_oplog_does_not_matter() -> None:
    decoy = END + bson(db="", collection="oplog", EOF=False, CRC=0) + bson(ts=(99, 99))
    packed = archived(block("items", bson(x=decoy), bson(y=1)), OPLOG)
    end = archive.OplogEnd()
    end.feed(packed)
    end.close()
    assert end.moment == (5, 2)


def test_half_an_archive_is_refused() -> None:
    packed = archived(block("items", bson(x=1)), OPLOG)
    end = archive.OplogEnd()
    end.feed(packed[:-20])
    with pytest.raises(ValueError, match="cut off"):
        end.close()
    without = archive.OplogEnd()
    without.feed(archived(block("items", bson(x=1))))
    with pytest.raises(ValueError, match="no oplog"):
        without.close()
