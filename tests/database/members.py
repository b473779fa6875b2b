"""A replica set of three real servers with a shared key, each restarted by itself, and who writes to it meanwhile."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pymongo
from pymongo.errors import OperationFailure, PyMongoError

from lab.ports import free_port
from phoenix.database import replica_set, tls

AUTHENTICATION_FAILED = 18
MEMBERS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
# How often a state is read before it is given up: a clock would run on while a busy machine stands still.
LOOKS = 300
# After which a primary without a majority steps down.
ELECTION_S = 2
# Between two writes: short beside whatever happens meanwhile, and long enough for the machine to do the rest.
PACE_S = 0.05


class Set:
    """Three members with a key file each."""

    def __init__(self, root: Path, mongod: Path, key: str, environment: Mapping[str, str] | None = None) -> None:
        self.root, self.environment, self.port, self.key = root, environment, free_port(), key
        self.programs = dict.fromkeys(MEMBERS, mongod)
        # More options of each server, and the CAs by which it is asked by TLS, or "".
        self.options: dict[str, list[str]] = {member: [] for member in MEMBERS}
        self.cas = dict.fromkeys(MEMBERS, "")
        self.servers: dict[str, subprocess.Popen[bytes]] = {}
        for member in MEMBERS:
            (root / member).mkdir()
            self.write(member, f"{key}\n")

    def initiate(self) -> None:
        for member in MEMBERS:
            self.start(member)
        members = [{"_id": n, "host": f"{member}:{self.port}"} for n, member in enumerate(MEMBERS)]
        settings = {"electionTimeoutMillis": ELECTION_S * 1000, "heartbeatTimeoutSecs": ELECTION_S}
        settings["heartbeatIntervalMillis"] = 1000
        # Each must answer first: the set refuses members that do not.
        for member in MEMBERS:
            with self.client(member) as client:
                client.admin.command("ping")
        # Through the localhost exception, which the first address alone has.
        with self.client(MEMBERS[0]) as client:
            client.admin.command("replSetInitiate", {"_id": "keys", "members": members, "settings": settings})

    def client(self, member: str, **login: str) -> Any:
        return replica_set.client(member, self.port, self.cas[member], serverSelectionTimeoutMS=30000, **login)

    def connect(self, ca: str = "") -> Any:
        """A client of the whole set, which waits for majorities. ca: the CAs by which it connects; "" without TLS."""
        return pymongo.MongoClient(
            f"mongodb://{','.join(f'{member}:{self.port}' for member in MEMBERS)}/?replicaSet=keys",
            username="__system", password=self.key, authSource="local",
            w="majority", wtimeoutms=10000, serverSelectionTimeoutMS=10000, **tls.options(ca),
        )  # fmt: skip

    def write(self, member: str, content: str) -> None:
        path = self.root / f"{member}.key"
        path.unlink(missing_ok=True)
        path.write_text(content)
        path.chmod(0o400)

    def content(self, member: str) -> str:
        return (self.root / f"{member}.key").read_text()

    def start(self, member: str) -> None:
        self.servers[member] = subprocess.Popen(
            [self.programs[member], f"--dbpath={self.root / member}", f"--port={self.port}", f"--bind_ip={member}",
             "--replSet=keys", f"--keyFile={self.root / member}.key", "--wiredTigerCacheSizeGB=0.25",
             "--oplogSize=50", f"--logpath={self.root / member}.log", "--nounixsocket",
             # By default a member waits 15 s for its clients before it ends.
             "--setParameter=shutdownTimeoutMillisForSignaledShutdown=0", *self.options[member]],
            stdout=subprocess.DEVNULL,
            env=self.environment,
        )  # fmt: skip

    def stop(self, member: str) -> None:
        self.servers[member].terminate()
        self.servers[member].wait(60)

    def restart(self, member: str) -> None:
        self.stop(member)
        self.start(member)

    def roles(self) -> dict[str, str]:
        """PRIMARY, SECONDARY or neither, of each: a member that refuses another's key is neither."""
        return {member: replica_set.role(member, self.port, self.cas[member]) for member in MEMBERS}

    def whole(self) -> bool:
        """One primary, and the others follow."""
        return sorted(self.roles().values()) == ["PRIMARY", "SECONDARY", "SECONDARY"]

    def primary(self) -> str:
        """The primary; where there is an election, the one that it brings."""
        for _ in range(LOOKS):
            if found := [member for member, role in self.roles().items() if role == "PRIMARY"]:
                return found[0]
            time.sleep(0.2)
        raise AssertionError("the set has no primary")

    def settle(self) -> None:
        """Wait until the set is whole for longer than a primary remains one without a majority.

        So a former state does not pass for the new one.
        """
        since, looks = time.monotonic(), 0
        for _ in range(LOOKS):
            if not self.whole():
                since, looks = time.monotonic(), -1
            looks += 1
            if looks >= 6 and time.monotonic() - since >= 1.5 * ELECTION_S:
                return
            time.sleep(0.5)
        raise AssertionError("the set does not settle")

    def accepts(self, member: str, key: str) -> bool:
        try:
            with replica_set.client(member, self.port, username="__system", password=key, authSource="local") as client:
                client.admin.command("ping")
        except OperationFailure as error:
            assert error.code == AUTHENTICATION_FAILED
            return False
        return True


class Writing(threading.Thread):
    """Writes with a client of its own until the block ends; what it writes, its kind knows."""

    def __init__(self, client: Any) -> None:
        super().__init__()
        self.client, self.over = client, threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()
        self.client.close()


class Writer(Writing):
    """Writes one document after the other with majority acknowledgement, as the application's driver does."""

    def __init__(self, members: Set, ca: str = "") -> None:
        super().__init__(members.connect(ca))
        self.members, self.ca = members, ca
        self.acknowledged, self.failed = list[int](), list[str]()

    def run(self) -> None:
        number = 0
        while not self.over.wait(PACE_S):
            number += 1
            try:
                self.write(number)
                self.acknowledged.append(number)
            except PyMongoError as error:
                self.failed.append(f"{number}: {error}")

    def write(self, number: int) -> None:
        self.client.app[self.name].insert_one({"_id": number})

    def __enter__(self) -> Self:
        super().__enter__()
        while not self.acknowledged and not self.failed:
            time.sleep(0.05)
        return self

    def check(self, ca: str = "") -> None:
        """No write failed, and none that was acknowledged is lost. ca: by which the database is reached now."""
        with self.members.connect(ca) as client:
            there = {one["_id"] for one in client.app[self.name].find()}
        lost = set(self.acknowledged) - there
        assert self.acknowledged and not self.failed, f"{len(self.failed)} writes failed: {self.failed[:3]}"
        assert not lost, f"acknowledged writes are lost: {sorted(lost)[:9]}"


@contextmanager
def three(
    mongod: Path,
    key: str,
    environment: Mapping[str, str] | None = None,
    prepare: Callable[[Set], None] = lambda _: None,
) -> Iterator[Set]:
    """A set that has been initiated. environment: the servers', if it is not this process's; prepare: before."""
    root = Path(tempfile.mkdtemp(prefix="phx-"))
    made = Set(root, mongod, key, environment)
    try:
        prepare(made)
        made.initiate()
        yield made
    finally:
        for server in made.servers.values():
            server.terminate()
        for server in made.servers.values():
            server.wait(60)
        shutil.rmtree(root)
