"""The quick ones of the runbook's drills; `make drills` plays all of them."""

from __future__ import annotations

import pytest

from drills import report
from drills.catalog import DRILLS
from drills.model import Drill, Scene
from drills.run import play


@pytest.mark.parametrize("drill", [drill for drill in DRILLS if drill.quick], ids=lambda drill: drill.name)
def test_a_quick_drill_is_good(drill: Drill, inventory: str, base_url: str) -> None:
    outcome = play(drill, Scene(inventory, base_url))
    print(report.row(outcome))
    assert outcome.wrong == []
