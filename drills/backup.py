"""A database that was dropped comes back, documents and all, from a dump of before."""

from __future__ import annotations

import time

from drills.model import Drill, Scene
from tests.harness.backup import Trial, own_store

NAME = "backup_trial"
DOCUMENTS = "20000"


def restore_what_was_dropped(scene: Scene) -> dict[str, float]:
    trial = Trial(scene.inventory)
    # Tonight's dump would count as shrunken after this one.
    with own_store(trial):
        trial.documents("fill", DOCUMENTS)
        before = trial.documents("count")
        scene.play("backup")
        trial.documents("drop")
        began = time.monotonic()
        scene.play("restore", phoenix_restore_collection=NAME, phoenix_restore_confirm="yes")
        recovered = time.monotonic() - began
        assert trial.documents("count") == before
    return {"recovered": recovered}


def drop_the_trial(scene: Scene) -> None:
    Trial(scene.inventory).documents("drop")


DRILLS = [
    Drill("restore", ("A collection, or its content, is lost",), restore_what_was_dropped, clean=drop_the_trial),
]
