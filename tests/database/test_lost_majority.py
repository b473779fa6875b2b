"""Two of three members are lost for good: the third goes on, and empty ones in their places copy what it has."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymongo
import pytest

from phoenix.common import endpoint
from phoenix.database import reconfigure, replica_set
from tests.database.members import MEMBERS, Set, three
from tests.harness.real_database import found

KEY = secrets.token_hex(32)
LEFT, *LOST = MEMBERS
PASSWORD = "a/b:c"  # pragma: allowlist secret


@pytest.fixture
def members(programs: Path) -> Iterator[Set]:
    with three(found(programs, "mongod"), KEY) as made:
        yield made


def admin(address: str, port: int, **more: Any) -> Any:
    return replica_set.client(address, port, username="admin", password=PASSWORD, **more)


def test_what_is_left_serves_alone_and_is_whole_again(members: Set) -> None:
    members.settle()
    port = members.port
    primary = next(member for member in MEMBERS if replica_set.role(member, port) == "PRIMARY")
    with replica_set.client(primary, port, username="__system", password=KEY, authSource="local") as client:
        client.admin.command("createUser", "admin", pwd=PASSWORD, roles=["root"], writeConcern={"w": 3})
    with admin(primary, port) as client:
        items = client.shop.get_collection("items", write_concern=pymongo.WriteConcern(3))
        items.insert_many([{"_id": number} for number in range(100)])
    gone = [endpoint.of(member, port) for member in LOST]
    with admin(LEFT, port, serverSelectionTimeoutMS=10000) as client:
        with pytest.raises(reconfigure.Refused, match="is primary"):
            reconfigure.shrink(client, gone)
        for member in LOST:
            members.servers[member].kill()
            members.servers[member].wait()
            shutil.rmtree(members.root / member)
        deadline = time.monotonic() + 60
        while replica_set.role(LEFT, port) == "PRIMARY":
            assert time.monotonic() < deadline, "without a majority it steps down"
            time.sleep(0.2)
        with pytest.raises(reconfigure.Refused, match="does not answer either"):
            reconfigure.shrink(client, gone[:1])
        reconfigure.shrink(client, gone)
    assert replica_set.wait(LEFT, port, [LEFT], "primary", 60).primary == LEFT
    with admin(LEFT, port) as client:
        client.shop.items.insert_one({"_id": "alone"})
        # As site.yml does with empty hosts in their places.
        for member in LOST:
            (members.root / member).mkdir()
            members.start(member)
            with replica_set.client(member, port, serverSelectionTimeoutMS=30000) as empty:
                empty.admin.command("ping")
        wanted = replica_set.configured_members([{"address": member} for member in MEMBERS], port)
        assert reconfigure.reconfigure(client, wanted, {})[:2] == [f"add {host}" for host in gone]
    state = replica_set.wait(LEFT, port, MEMBERS, "settled", 60)
    assert state.reaches("settled", LEFT), state
    for member in LOST:
        with admin(member, port, readPreference="secondaryPreferred") as client:
            assert client.shop.items.count_documents({}) == 101
