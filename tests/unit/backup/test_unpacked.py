"""An archive is unpacked piece by piece, however well it was packed."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest

from phoenix.backup import scratch
from tests.unit.backup.builders import dump


def test_no_piece_is_large_and_none_is_missing(tmp_path: Path) -> None:
    content = bytes(20 * scratch.PIECE) + b"end"
    packed = gzip.compress(content)
    assert len(packed) < scratch.PIECE
    (tmp_path / "dump.archive.gz").write_bytes(packed)
    held = dump(1, folder=tmp_path, manifest={"sha256": hashlib.sha256(packed).hexdigest()})
    pieces = list(scratch._unpacked(held))
    assert b"".join(pieces) == content
    assert max(map(len, pieces)) <= scratch.UNPACKED


def test_damage_is_reported(tmp_path: Path) -> None:
    (tmp_path / "dump.archive.gz").write_bytes(b"x" * 100)
    with pytest.raises(scratch.Unproven, match="damaged"):
        list(scratch._unpacked(dump(1, folder=tmp_path)))
