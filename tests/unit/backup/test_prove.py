"""The verdict on a dump that was restored."""

from __future__ import annotations

from phoenix.backup import prove
from tests.unit.backup.builders import dump, manifest


def test_only_what_equals_its_manifest_is_good() -> None:
    assert prove.judge(dump(2), ["app.items is missing"], [])[0] == "bad"
    assert prove.judge(dump(2), [], [])[0] == "good"
    assert prove.judge(dump(2, manifest=manifest(0)), [], [])[0] == "empty"
    assert prove.judge(dump(2, manifest=manifest(49)), [], [dump(1)])[0] == "shrunken"
    assert prove.judge(dump(2, manifest=manifest(50)), [], [dump(1)])[0] == "good"
    # A shrunken one is no measure for the next, nor is a safety dump.
    known = [dump(1), dump(2, "shrunken", manifest=manifest(10)), dump(3, kind="safety", manifest=manifest(10))]
    assert prove.judge(dump(4, manifest=manifest(10)), [], known)[0] == "shrunken"
