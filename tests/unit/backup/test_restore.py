"""What may be restored, and what a restore replaces."""

from __future__ import annotations

import pytest

from phoenix.backup import restore
from tests.unit.backup.builders import dump


def test_what_may_be_restored() -> None:
    known = [
        dump(1),
        dump(2),
        dump(3, "bad"),
        dump(4, "unproven"),
        dump(5, "shrunken"),
        dump(6, kind="safety"),
        dump(7, "failed"),
    ]
    assert restore.choose(known, "newest") is known[1]
    assert restore.choose(known, known[4].name) is known[4]
    assert restore.choose(known, known[5].name) is known[5]
    for wrong in (known[2].name, known[3].name, known[6].name, "../dumps", "20200101T000000Z-db9"):
        with pytest.raises(restore.Refused):
            restore.choose(known, wrong)
    with pytest.raises(restore.Refused, match="no good dump"):
        restore.choose([dump(1, "bad")], "newest")


def test_a_single_collection_touches_nothing_else() -> None:
    assert list(restore.wanted(dump(1), "app.items")) == ["app.items"]
    with pytest.raises(restore.Refused, match="no collection app"):
        restore.wanted(dump(1), "app.other")
    live = {"app.items": 1, "app.later": 2, "else.where": 3}
    assert restore.surplus(live, {"app.items": 1}, "") == ["app.later"]
    assert restore.surplus(live, {"app.items": 1}, "app.items") == []
