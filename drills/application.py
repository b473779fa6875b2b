"""The application: a deploy and its rollback, and an instance that is missing."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from drills.model import Drill, Scene
from lab import releases
from tests.harness.deploys import TIMES, releases_of
from tests.harness.instances import serving
from tests.harness.waiting import wait_for


def deploy_and_roll_back(scene: Scene) -> dict[str, float]:
    (before,) = releases_of(scene.hosts("app"))
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        source = releases.make("good", Path(folder, "source"), time.strftime("drill%H%M%S"))
        scene.play("deploy", phoenix_source=str(source), **TIMES)
    deployed = time.monotonic() - began
    assert releases_of(scene.hosts("app")) != {before}
    scene.play("rollback", phoenix_version=before, **TIMES)
    assert releases_of(scene.hosts("app")) == {before}
    return {"deployed": deployed, "recovered": time.monotonic() - began - deployed}


def start_what_is_missing(scene: Scene) -> dict[str, float]:
    host = next(iter(serving(scene.inventory).values()))
    host.check_output("systemctl stop phoenix@3000")
    began = time.monotonic()
    scene.play("site", "--tags", "phoenix")
    wait_for(lambda: bool(host.service("phoenix@3000").is_running), 30, "the instance runs again")
    return {"recovered": time.monotonic() - began}


DRILLS = [
    Drill("deploy", ("Deploy and roll back",), deploy_and_roll_back),
    Drill("missing-instance", ("Alarm: phoenix_instances_missing",), start_what_is_missing),
]
