"""Three real servers of 5.0 brought to 6.0 and back under majority writes, in the order and by the rules of the play.

What upgrade.refusal() refuses, the servers refuse as well.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import archives
from phoenix.database import replica_set, upgrade
from tests.database.members import MEMBERS, Set, Writer, three
from tests.harness import debian
from tests.harness.real_database import unpack

FORMER, NEXT = "5.0.4", archives.NEXT_MONGODB.version
KEY = secrets.token_hex(32)


class Upgrade:
    """The steps of playbooks/upgrade-mongodb.yml, on the members of a set."""

    def __init__(self, members: Set, programs: dict[str, Path]) -> None:
        self.members, self.versions = members, programs

    def command(self, member: str, *words: Any, **options: Any) -> dict[str, Any]:
        login = {"username": "__system", "password": KEY, "authSource": "local"}
        with replica_set.client(member, self.members.port, serverSelectionTimeoutMS=30000, **login) as client:
            return dict(client.admin.command(*words, **options))

    def seen(self, wanted: str) -> dict[str, dict[str, object]]:
        primary = self.members.primary()
        return {
            member: {
                "version": self.command(member, "buildInfo")["version"],
                "wanted": wanted,
                "primary": member == primary,
            }
            for member in MEMBERS
        }

    def compatibility(self) -> str:
        answer = self.command(self.members.primary(), {"getParameter": 1, "featureCompatibilityVersion": 1})
        return str(answer["featureCompatibilityVersion"]["version"])

    def bring(self, version: str) -> None:
        assert upgrade.refusal(version, self.compatibility()) == ""
        turns = upgrade.turns(self.seen(version))
        assert sorted(turns) == sorted(MEMBERS) and turns[-1] == self.members.primary()
        for member in turns:
            if member == self.members.primary():
                self.command(member, {"replSetStepDown": 30, "secondaryCatchUpPeriodSecs": 10})
            self.members.stop(member)
            self.members.programs[member] = self.versions[version]
            self.members.start(member)
            self.members.settle()
        assert upgrade.turns(self.seen(version)) == []

    def set_compatibility(self, version: str) -> None:
        running = {member: str(seen["version"]) for member, seen in self.seen("").items()}
        assert upgrade.compatibility_refusal(version, running) == ""
        self.command(
            self.members.primary(), {"setFeatureCompatibilityVersion": version}, writeConcern={"w": "majority"}
        )
        assert self.compatibility() == version


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("mongod")
    unpack(folder, f"mongodb-{FORMER}", f"mongodb-{NEXT}")
    return {version: folder / f"mongodb-{version}" / "bin" / "mongod" for version in (FORMER, NEXT)}


@pytest.fixture
def members(versions: dict[str, Path]) -> Iterator[Set]:
    # The next one is built for Debian 11, too.
    with three(versions[FORMER], KEY, debian.for_former_mongodb()) as made:
        yield made


def test_the_next_series_and_the_way_back_under_writes(members: Set, versions: dict[str, Path]) -> None:
    steps = Upgrade(members, versions)
    members.settle()
    with Writer(members) as writer:
        steps.bring(NEXT)
        steps.bring(FORMER)
        steps.bring(NEXT)
        steps.set_compatibility("6.0")
        assert "-e phoenix_feature_compatibility=5.0 first" in upgrade.refusal(FORMER, steps.compatibility())
        refused = next(member for member, role in members.roles().items() if role == "SECONDARY")
        members.stop(refused)
        members.programs[refused] = versions[FORMER]
        members.start(refused)
        assert members.servers[refused].wait(60) != 0, "the former server opened data of the next series"
        members.programs[refused] = versions[NEXT]
        members.start(refused)
        members.settle()
        steps.set_compatibility("5.0")
        assert upgrade.refusal(FORMER, steps.compatibility()) == ""
        written = len(writer.acknowledged)
        time.sleep(1)
    assert len(writer.acknowledged) > written
    writer.check()
