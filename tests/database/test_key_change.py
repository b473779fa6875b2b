"""The members' shared key, changed on three real servers: the set stays whole, and the old key is refused then."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pymongo.errors import OperationFailure, PyMongoError

from phoenix.database import keys, replica_set
from tests.database.conftest import found, free_port

AUTHENTICATION_FAILED = 18
MEMBERS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
OLD, NEW = secrets.token_hex(32), secrets.token_hex(32)


class Set:
    """Three members with a key file each."""

    def __init__(self, root: Path, mongod: Path) -> None:
        self.root, self.mongod, self.port = root, mongod, free_port()
        self.servers: dict[str, subprocess.Popen[bytes]] = {}
        for member in MEMBERS:
            (root / member).mkdir()
            self.write(member, f"{OLD}\n")
            self.start(member)
        members = [{"_id": n, "host": f"{member}:{self.port}"} for n, member in enumerate(MEMBERS)]
        settings = {"electionTimeoutMillis": 2000, "heartbeatTimeoutSecs": 2}
        # Each must answer first: the set refuses members that do not.
        for member in MEMBERS:
            with replica_set.client(member, self.port, serverSelectionTimeoutMS=30000) as client:
                client.admin.command("ping")
        # Through the localhost exception, which the first address alone has.
        client = replica_set.client(MEMBERS[0], self.port, serverSelectionTimeoutMS=30000)
        client.admin.command("replSetInitiate", {"_id": "keys", "members": members, "settings": settings})
        client.close()

    def write(self, member: str, content: str) -> None:
        path = self.root / f"{member}.key"
        path.unlink(missing_ok=True)
        path.write_text(content)
        path.chmod(0o400)

    def content(self, member: str) -> str:
        return (self.root / f"{member}.key").read_text()

    def start(self, member: str) -> None:
        self.servers[member] = subprocess.Popen(
            [self.mongod, f"--dbpath={self.root / member}", f"--port={self.port}", f"--bind_ip={member}",
             "--replSet=keys", f"--keyFile={self.root / member}.key", "--wiredTigerCacheSizeGB=0.25",
             "--oplogSize=50", f"--logpath={self.root / member}.log", "--nounixsocket",
             # By default a member waits 15 s for its clients before it ends.
             "--setParameter=shutdownTimeoutMillisForSignaledShutdown=0"],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def restart(self, member: str) -> None:
        self.servers[member].terminate()
        self.servers[member].wait(60)
        self.start(member)

    def whole(self) -> bool:
        """One primary, and the others follow: a member that refuses another's key is neither."""
        roles = []
        for member in MEMBERS:
            with replica_set.client(member, self.port, serverSelectionTimeoutMS=2000) as client:
                try:
                    hello = client.admin.command("hello")
                except PyMongoError:
                    return False
            roles.append("primary" if hello.get("isWritablePrimary") else hello.get("secondary") and "secondary")
        return sorted(map(str, roles)) == ["primary", "secondary", "secondary"]

    def settle(self) -> None:
        deadline = time.monotonic() + 60
        # For as long as two heartbeats need, so that a former state is not taken for the new one.
        since = time.monotonic()
        while time.monotonic() - since < 5:
            assert time.monotonic() < deadline, "the set does not settle"
            if not self.whole():
                since = time.monotonic()
            time.sleep(0.2)

    def accepts(self, member: str, key: str) -> bool:
        client: Any = pymongo.MongoClient(
            member, self.port, directConnection=True, username="__system", password=key, authSource="local"
        )
        try:
            client.admin.command("ping")
        except OperationFailure as error:
            assert error.code == AUTHENTICATION_FAILED
            return False
        return True


@pytest.fixture
def members(programs: Path) -> Iterator[Set]:
    root = Path(tempfile.mkdtemp(prefix="phx-"))
    made = Set(root, found(programs, "mongod"))
    try:
        yield made
    finally:
        for server in made.servers.values():
            server.terminate()
        for server in made.servers.values():
            server.wait(60)
        shutil.rmtree(root)


def test_the_set_is_whole_throughout_and_the_old_key_is_refused_afterwards(members: Set) -> None:
    members.settle()
    assert [members.accepts(MEMBERS[0], key) for key in (OLD, NEW)] == [True, False]
    for member in MEMBERS:
        members.write(member, keys.beside(members.content(member), NEW))
    assert keys.spread(map(members.content, MEMBERS), NEW)
    for member in reversed(MEMBERS):
        members.restart(member)
        members.settle()
    assert all(members.accepts(member, key) for member in MEMBERS for key in (OLD, NEW))
    for member in MEMBERS:
        members.write(member, f"{NEW}\n")
    for member in reversed(MEMBERS):
        members.restart(member)
        members.settle()
        assert [members.accepts(member, key) for key in (OLD, NEW)] == [False, True]
