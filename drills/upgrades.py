"""MongoDB brought to the next series and back, and a host replaced by one with the next release of Debian, and back."""

from __future__ import annotations

import time
from pathlib import Path

from drills.model import WITHOUT_AUTOSCALER, Drill, Scene
from lab import archives
from tests.harness import plays
from tests.harness.database import admin, answer
from tests.harness.hosts import output_of
from tests.harness.machines import replace
from tests.harness.plays import TOP

FORMER, NEXT = "5.0.4", archives.NEXT_MONGODB.version
SUITES = {"12": "bookworm", "13": "trixie"}
BEFORE, AFTER = SUITES
RELEASE = ". /etc/os-release && echo $VERSION_ID"


def refused(scene: Scene, name: str, why: str, *options: str, **variables: str) -> None:
    """Run a play that has to end with this reason. Raises AssertionError where it does not."""
    done = plays.run(scene.inventory, name, *options, **variables)
    # Ansible wraps its output.
    assert done.returncode != 0 and why in " ".join(done.stdout.split()), f"{name}.yml: {plays.excerpt(done.stdout)}"


# --- MongoDB


def _archive(version: str) -> Path:
    component = next(
        one for one in (*archives.COMPONENTS, archives.NEXT_MONGODB) if one.filename == f"mongodb-{version}.tar"
    )
    return archives.fetch(component, TOP / ".cache" / "archives", print)


def _wanted(version: str) -> dict[str, str]:
    """As the inventory would have it."""
    archive = _archive(version)
    checksum = f"sha256:{archives.sha256(archive)}"
    return {"mongodb_version": version, "mongodb_archive": str(archive), "mongodb_archive_checksum": checksum}


def _running(scene: Scene) -> set[tuple[str, str]]:
    """The members' versions and feature compatibility versions, by the servers' own word."""
    asked = ({"buildInfo": 1}, {"getParameter": 1, "featureCompatibilityVersion": 1})
    found = set()
    for name in scene.hosts("db"):
        built, compatible = (answer(scene.inventory, name, one, **admin(scene.inventory)) for one in asked)
        found.add((str(built["version"]), str(compatible["featureCompatibilityVersion"]["version"])))
    return found


def _bring(scene: Scene, version: str) -> float:
    began = time.monotonic()
    scene.play("upgrade-mongodb", **_wanted(version))
    return time.monotonic() - began


def upgrade_and_go_back(scene: Scene) -> dict[str, float]:
    """Up, back before the feature compatibility version is raised, up for good, and back after it was lowered."""
    measured = {"upgraded": _bring(scene, NEXT)}
    assert _running(scene) == {(NEXT, "5.0")}
    measured["back"] = _bring(scene, FORMER)
    assert _running(scene) == {(FORMER, "5.0")}
    _bring(scene, NEXT)
    scene.play("upgrade-mongodb", phoenix_feature_compatibility="6.0", **_wanted(NEXT))
    assert _running(scene) == {(NEXT, "6.0")}
    refused(scene, "upgrade-mongodb", "-e phoenix_feature_compatibility=5.0 first", **_wanted(FORMER))
    assert _running(scene) == {(NEXT, "6.0")}
    scene.play("upgrade-mongodb", phoenix_feature_compatibility="5.0", **_wanted(NEXT))
    _bring(scene, FORMER)
    assert _running(scene) == {(FORMER, "5.0")}
    return measured


def fetch_both(scene: Scene) -> None:
    for version in (FORMER, NEXT):
        _archive(version)


def have_the_former(scene: Scene) -> None:
    if _running(scene) != {(FORMER, "5.0")}:
        scene.play("upgrade-mongodb", phoenix_feature_compatibility="5.0", **_wanted(NEXT))
        _bring(scene, FORMER)


# --- Debian


def _with_debian(scene: Scene, release: str) -> float:
    """As the runbook has it without a provider: out of service, another host in its place, into service."""
    name = scene.second("app")
    wanted = {"phoenix_host": name, "phoenix_debian": release}
    began = time.monotonic()
    refused(scene, "upgrade-debian", f"Then install Debian {release} on it", *WITHOUT_AUTOSCALER, **wanted)
    replace(scene.inventory, name, SUITES[release])
    scene.play("upgrade-debian", *WITHOUT_AUTOSCALER, **wanted)
    host = scene.hosts("app")[name]
    assert output_of(host, RELEASE) == release
    assert host.service("phoenix@3000").is_running
    return time.monotonic() - began


def replace_by_the_next_release(scene: Scene) -> dict[str, float]:
    return {"upgraded": _with_debian(scene, AFTER), "back": _with_debian(scene, BEFORE)}


def have_it_on_the_inventorys(scene: Scene) -> None:
    name = scene.second("app")
    other = output_of(scene.hosts("app")[name], RELEASE) != BEFORE
    if other:
        replace(scene.inventory, name)
    if other or not scene.hosts("app")[name].service("phoenix@3000").is_running:
        scene.play("site", *WITHOUT_AUTOSCALER)


DRILLS = [
    Drill(
        "upgrade-mongodb",
        ("MongoDB is upgraded",),
        upgrade_and_go_back,
        prepare=fetch_both,
        clean=have_the_former,
        inventory="mongodb-5.0",
    ),
    Drill("upgrade-debian", ("Debian is upgraded",), replace_by_the_next_release, clean=have_it_on_the_inventorys),
]
