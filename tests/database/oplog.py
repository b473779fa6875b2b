"""Three members, each with its shipper, and a store: the real programs, with a stand-in for SSH between them."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

from lab.ports import free_port
from phoenix.backup import plan, prove, restore, scratch, sender, store
from phoenix.backup.oplog.chain import Chain, moment_of, show
from phoenix.backup.order import Order
from tests.database.members import MEMBERS, Writing
from tests.harness.real_database import found
from tests.unit.shared import TOP

OPLOG_MB = 64
MB = 1024 * 1024
# Of a disk of its own; of a store's: what is kept free for others.
DISK, RESERVED = 700 * MB, 3 * MB
# Like phoenixctl, for one host: with its configuration, and the server and the tools where they are.
PROGRAM = """#!{python}
import os
import sys
from pathlib import Path
sys.path[:0] = [{source!r}]
from phoenix.backup import cli, room, scratch
from phoenix.backup.oplog import ship
if __name__ == "__main__":
    scratch.TOOLS, scratch.SERVER, ship.COMMAND, ship.DUMP_AGAIN = Path({tools!r}), Path({server!r}), sys.argv[0], 5.0
    room.JOURNAL = 0  # the disks of the tests are small: a dump is to be refused while it arrives
    scratch.PORT = int(os.environ.get("PHOENIX_TEST_PORT", scratch.PORT))
    sys.exit(cli.main(["--config", {folder!r}, *sys.argv[2:]]))
"""
# Runs the forced command of the host's key.
SSH = """#!/bin/sh
for last; do :; done
SSH_ORIGINAL_COMMAND="$last" exec {store} backup store --host "$PHOENIX_TEST_HOST" --dumps
"""


def wait(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.1)
    return value


@dataclass
class Shippers:
    """The members' shippers, as processes of their own; output: of each, so far."""

    folder: Path
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, *hosts: str) -> None:
        for host in hosts:
            environment = {**os.environ, "PHOENIX_TEST_HOST": host, "PATH": f"{self.folder}:{os.environ['PATH']}"}
            self.running[host] = subprocess.Popen(
                [self.folder / host / "phoenixctl", "backup", "ship-oplog"],
                env=environment,
                stdout=(self.folder / host / "log").open("wb"),
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self, *hosts: str) -> None:
        """As if the host was lost: its connection with it."""
        for process in [self.running.pop(host) for host in hosts if host in self.running]:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait()

    def output(self, host: str) -> str:
        return (self.folder / host / "log").read_text()

    def shipping(self) -> list[str]:
        """The hosts that had the task last, by their own account."""
        lines = {host: self.output(host).splitlines() for host in self.running}
        return [host for host, said in lines.items() if said and said[-1].startswith("shipping: ")]


class Set:
    """The replica set and its store."""

    def __init__(self, root: Path, port: int, programs: Path) -> None:
        self.root, self.port, self.password = root, port, secrets.token_hex(8)
        self.programs = programs
        self.servers: dict[str, subprocess.Popen[bytes]] = {}
        (root / "key").write_text(secrets.token_hex(32))
        (root / "key").chmod(0o400)
        (root / "store").mkdir()
        config = store.Config(str(root / "store"), "fleet.example", "phoenix", 7, 93600, 0, 0, 10, 0.25,
                              str(root / "m"), port, False, oplog_metrics=str(root / "oplog.prom"))  # fmt: skip
        self.configure(config)
        self.hosts = {f"db{number}": address for number, address in enumerate(MEMBERS, 1)}
        self.senders = {}
        for host, address in self.hosts.items():
            self._write(host, "password", {"password": self.password})
            self.senders[host] = sender.Config(
                host, "store", "fleet.example", "phoenix", address, list(MEMBERS), port, "backup", 30, 60, [], [],
                password=str(root / host / "password"), oplog_seconds=1.0, mongod=address,
            )  # fmt: skip
            self._write(host, "sender.json", vars(self.senders[host]))
        (root / "ssh").write_text(SSH.format(store=root / "store-program" / "phoenixctl"))
        (root / "ssh").chmod(0o755)
        self._program("store-program", root / "store.d")
        for host in self.hosts:
            self._program(host, root / host)
        self.shippers = Shippers(root)

    def configure(self, config: store.Config) -> None:
        """Give the store its settings."""
        self.store = store.Store(config)
        self.store.prepare()
        self._write("store", "store.json", asdict(config))

    def _write(self, folder: str, name: str, content: Any) -> None:
        place = self.root / ("store.d" if folder == "store" else folder)
        place.mkdir(exist_ok=True)
        (place / name).write_text(json.dumps(content))

    def _program(self, folder: str, config: Path) -> None:
        path = self.root / folder / "phoenixctl"
        path.parent.mkdir(exist_ok=True)
        text = PROGRAM.format(
            python=sys.executable, source=str(TOP / "src"), folder=str(config),
            tools=str(found(self.programs, "mongodump").parent), server=str(found(self.programs, "mongod")),
        )  # fmt: skip
        path.write_text(text)
        path.chmod(0o755)

    def launch(self, host: str) -> None:
        (self.root / host / "db").mkdir(exist_ok=True)
        self.servers[host] = subprocess.Popen(
            [found(self.programs, "mongod"), f"--dbpath={self.root / host / 'db'}", f"--port={self.port}",
             f"--bind_ip={self.hosts[host]}", "--replSet=phoenix", f"--keyFile={self.root / 'key'}",
             f"--oplogSize={OPLOG_MB}", "--wiredTigerCacheSizeGB=0.25", f"--logpath={self.root / host / 'mongod.log'}",
             f"--unixSocketPrefix={self.root / host}", "--setParameter=diagnosticDataCollectionEnabled=false",
             "--setParameter=enableTestCommands=1", "--setParameter=ttlMonitorSleepSecs=1",
             "--setParameter=periodicNoopIntervalSecs=1", "--syncdelay=3"],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def lose(self, host: str) -> None:
        """Kill a member's server and its shipper."""
        self.shippers.kill(host)
        self.servers[host].kill()
        self.servers[host].wait()

    def back(self, host: str) -> None:
        """Start a lost secondary and its shipper again."""
        self.launch(host)

        def secondary() -> bool:
            with contextlib.closing(self.alone(self.hosts[host])) as client:
                return bool(client.admin.command("hello").get("secondary"))

        wait(secondary, 60, f"{host} as a secondary")
        self.shippers.start(host)

    def settled(self) -> None:
        """Wait until the first member is the primary again."""

        def primary() -> bool:
            with contextlib.closing(self.alone(MEMBERS[0])) as client:
                return bool(client.admin.command("hello").get("isWritablePrimary"))

        wait(primary, 60, "the first member as primary")

    def initiate(self) -> None:
        for host in self.hosts:
            self.launch(host)
        for address in MEMBERS:
            with contextlib.closing(self.alone(address)) as client:
                client.admin.command("ping")
        members = [
            {"_id": number, "host": f"{address}:{self.port}", "priority": 3 - number}
            for number, address in enumerate(MEMBERS)
        ]
        settings = {"electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 500}
        alone = self.alone(MEMBERS[0])
        alone.admin.command("replSetInitiate", {"_id": "phoenix", "members": members, "settings": settings})
        wait(lambda: alone.admin.command("hello").get("isWritablePrimary"), 60, "a primary")
        wait(lambda: self._created(alone), 30, "the first user")
        alone.close()
        self.client = self.connect()
        self.client.admin.command("createUser", "backup", pwd=self.password, roles=["backup"])

    def connect(self, **options: Any) -> Any:
        """A client of the whole set, which waits for majorities."""
        return pymongo.MongoClient(
            [f"{address}:{self.port}" for address in MEMBERS], replicaSet="phoenix", username="admin",
            password=self.password, w="majority", **options,
        )  # fmt: skip

    def alone(self, address: str, **login: Any) -> Any:
        """A client of one member."""
        return pymongo.MongoClient(address, self.port, directConnection=True, **login)

    def _created(self, alone: Any) -> bool:
        try:
            alone.admin.command("createUser", "admin", pwd=self.password, roles=["root"])
        except PyMongoError:
            return False
        return True

    def sending(self, unit: str) -> subprocess.Popen[bytes]:
        """The process of a dump on a secondary."""
        environment = {**os.environ, "PHOENIX_TEST_HOST": "db2", "PATH": f"{self.root}:{os.environ['PATH']}"}
        return subprocess.Popen([self.root / "db2" / "phoenixctl", "backup", "dump", "--unit", unit], env=environment)

    def dump(self, unit: str = "nightly") -> store.Dump:
        """Take a dump on a secondary, through the store's own reception, and verify it."""
        before = {one.name for one in self.store.dumps()}
        process = self.sending(unit)
        try:
            wait(lambda: {one.name for one in self.store.dumps()} - before or process.poll() is not None, 60, "a dump")
            prove.run(self.store)
            process.wait(30)
        finally:
            process.kill()
            process.wait()
        (made,) = [one for one in self.store.dumps() if one.name not in before]
        return made

    def ship(self, *hosts: str) -> None:
        """Start shippers, and wait until the chain has begun: a dump from now on is within it."""
        self.shippers.start(*hosts)
        wait(self.ranges, 120, "a first segment")

    def ranges(self) -> list[Any]:
        return Chain(self.store.root).ranges()

    def shipped(self, seconds: int, patience: float = 120) -> None:
        """Wait until the store has the oplog up to a second."""
        wait(lambda: self.ranges() and self.ranges()[-1].last >= (seconds, 0), patience, f"the oplog up to {seconds}")

    def order(self, **more: Any) -> Order:
        return Order("admin", self.password, list(MEMBERS), **{"dump": "newest", **more})

    @contextlib.contextmanager
    def at(self, seconds: int) -> Iterator[Any]:
        """A client of the scratch server, brought to a second."""
        dump, limit = plan.choose_for(self.store, self.order(time=show(seconds)))
        assert limit and moment_of(dump) < limit
        with (
            scratch.holding(self.store, dump, limit=limit),
            contextlib.closing(scratch.client(self.store)) as client,
        ):
            yield client

    def restore(self, **more: Any) -> list[str]:
        """Plan and restore as the playbook does; the scratch server is not a unit here."""
        order = self.order(**more)
        name, _ = plan.plan(self.store, order)
        order = replace(order, dump=name)
        dump, limit = plan.choose_for(self.store, order)
        with scratch.holding(self.store, dump, order.collection, limit):
            names = restore.brought_forward(self.store, order) if limit else plan.wanted(dump, order.collection)
            return restore.replace(
                self.store, order, dump, self.client, names, plan.planned(self.store, dump, order, names)
            )

    def reset(self) -> None:
        """An empty set and an empty store, with no shipper."""
        self.shippers.kill(*self.shippers.running)
        for name in self.client.list_database_names():
            if name not in ("admin", "config", "local"):
                self.client.drop_database(name)
        for folder in ("dumps", "receipts", "oplog", "failures"):
            shutil.rmtree(self.store.root / folder)
            (self.store.root / folder).mkdir()
        for host in self.hosts:
            (self.root / host / "log").unlink(missing_ok=True)

    def close(self) -> None:
        self.shippers.kill(*self.shippers.running)
        for server in self.servers.values():
            server.kill()
            server.wait()
        shutil.rmtree(self.root)


def as_root(*command: object) -> None:
    subprocess.run([*(["sudo", "-n"] if os.geteuid() else []), *map(str, command)], check=True)


def mount(folder: Path) -> None:
    """A disk of its own, empty, in the place of a folder; it goes by unmount()."""
    as_root("mount", "-t", "tmpfs", "-o", f"size={DISK},uid={os.geteuid()},mode=0750", "disk", folder)


def unmount(folder: Path) -> None:
    as_root("umount", "--lazy", folder)


@contextlib.contextmanager
def own_disk_of(members: Set, host: str) -> Iterator[Path]:
    """A member, a secondary, on a disk of its own, with what it had; yields where a file takes room from it.

    Afterwards it is as it was before, and copies what it missed.
    """
    data, carried = members.root / host / "db", members.root / f"{host}.carried"
    with contextlib.ExitStack() as stack:
        members.lose(host)
        stack.callback(members.back, host)
        shutil.copytree(data, carried)
        stack.callback(shutil.rmtree, carried)
        mount(data)
        stack.callback(unmount, data)
        shutil.copytree(carried, data, dirs_exist_ok=True)
        stack.callback(members.lose, host)
        members.back(host)
        yield data / "ballast"


@contextlib.contextmanager
def own_disk(members: Set) -> Iterator[Path]:
    """The store on a disk of its own; yields where a file takes room from it."""
    config, root = members.store.config, members.store.root
    mount(root)
    try:
        members.configure(replace(config, min_free=RESERVED))
        yield root / "ballast"
    finally:
        members.shippers.kill(*members.shippers.running)
        unmount(root)
        members.configure(config)


def sessions(members: Set) -> list[int]:
    """The processes of the store's program."""
    name = str(members.root / "store-program" / "phoenixctl").encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if name in path.read_bytes():
                found.append(int(path.parent.name))
    return found


@contextlib.contextmanager
def without_store(members: Set) -> Iterator[None]:
    """The store's host loses its power: its processes end, and nobody reaches it until it is back."""
    way = members.root / "ssh"
    way.rename(way.with_name("ssh.away"))
    way.write_text("#!/bin/sh\nsleep 0.2\nexit 255\n")
    way.chmod(0o755)
    try:
        for process in sessions(members):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        yield
    finally:
        way.with_name("ssh.away").rename(way)


@dataclass(frozen=True)
class Write:
    """An acknowledged write: its time-stamp, the _id, its value (None: deleted), and whether it was repeated."""

    moment: tuple[int, int]
    which: int
    value: int | None
    repeated: bool


# Between two rounds of writes: some are always on their way when a primary is lost.
BRIEF_S = 0.005


class Writer(Writing):
    """Writes on, and knows what the data was at each moment."""

    def __init__(self, members: Set) -> None:
        super().__init__(members.connect())
        self.known: list[Write] = []
        self.error: Exception | None = None

    def run(self) -> None:
        number = 0
        while not self.over.wait(BRIEF_S):
            number += 1
            try:
                self._write(number, number)
                self._write(number // 2, -number)
                if number % 3 == 0:
                    self._write(number // 3, None)
            except PyMongoError as error:  # retried once by the driver: more is an error of the test
                self.error = error
                return

    def _write(self, which: int, value: int | None) -> None:
        begun = time.monotonic()
        with self.client.start_session() as session:
            if value is None:
                self.client.app.items.delete_one({"_id": which}, session=session)
            else:
                change = {"$set": {"value": value, "text": "x" * 100}}
                self.client.app.items.update_one({"_id": which}, change, upsert=True, session=session)
            stamp = session.operation_time
        self.known.append(Write((stamp.time, stamp.inc), which, value, time.monotonic() - begun > 1))

    def at(self, seconds: int) -> list[dict[int, int]]:
        """What the collection may have held at the beginning of a second.

        There is a choice only where a write was repeated: it may have taken place before the primary was lost, and has
        the time of the answer.
        """
        count = next((at for at, one in enumerate(self.known) if one.moment >= (seconds, 0)), len(self.known))
        repeated = count < len(self.known) and self.known[count].repeated
        return [self._after(count), *([self._after(count + 1)] if repeated else [])]

    def _after(self, count: int) -> dict[int, int]:
        content: dict[int, int] = {}
        for one in self.known[:count]:
            if one.value is None:
                content.pop(one.which, None)
            else:
                content[one.which] = one.value
        return content


@contextlib.contextmanager
def three_members(programs: Path) -> Iterator[Set]:
    members = Set(Path(tempfile.mkdtemp(prefix="phx-")), free_port(), programs)
    try:
        members.initiate()
        yield members
    finally:
        members.close()
