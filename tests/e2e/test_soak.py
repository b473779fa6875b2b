"""A short soak: a few single faults under one load, one after the other. `make soak` draws from all, for longer.

PHOENIX_SOAK_SEED  seed of their order and hosts (default 1)
"""

from __future__ import annotations

import os
from pathlib import Path

from drills.model import Scene
from soak import report, run

SEED = int(os.environ.get("PHOENIX_SOAK_SEED", "1"))
KINDS = ["app-host-stopped", "balancer-lost", "instance-frozen", "nginx-reloaded", "primary-lost"]
# As long as the first one recovers within its limit, there is time for all.
LONGEST_S = 600


def test_single_faults_are_survived(inventory: str, base_url: str, tmp_path: Path) -> None:
    scene = Scene(inventory, base_url)
    drawn = run.plan(scene, SEED, KINDS, len(KINDS), pause_s=(1, 2), hold_s=(4, 6))
    record = run.run(scene, drawn, LONGEST_S, print)
    found = report.write(record, tmp_path)
    print(report.markdown(found))
    assert record.wrong == []
    assert sorted(fault.kind for fault in record.faults) == KINDS
