"""A replica set of one with a login, a store beside it, and MongoDB's own tools: all real, in a folder of their own."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import secrets
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymongo
import pytest

from lab.ports import free_port
from phoenix.backup import fingerprint, plan, prove, restore, scratch, sender, store
from phoenix.backup.order import Order, connect
from tests.unit.shared import TOP

ARCHIVES = Path(os.environ.get("PHOENIX_ARCHIVES", TOP / ".cache" / "archives"))
NAME = "20261124T010000Z-db1"


def state_of(client: Any) -> dict[str, Any]:
    """Everything that a restore has to bring back: content, indexes, options, views."""
    found: dict[str, Any] = dict(fingerprint.take(client))
    for name in client.list_database_names():
        for shown in client[name].list_collections():
            if name not in fingerprint.SYSTEM_DATABASES and not fingerprint.internal(shown["name"]):
                found[f"{name}.{shown['name']} as"] = (shown.get("type"), shown["options"])
                if shown.get("type") == "collection":
                    indexes = client[name][shown["name"]].list_indexes()
                    found[f"{name}.{shown['name']} by"] = sorted((dict(one) for one in indexes), key=str)
    return found


class Pipe:
    """The part of a session with the store that the sender needs: the archive goes to a file."""

    def __init__(self, path: Path) -> None:
        self.frames = self
        self._file = path.open("wb")

    def send(self, kind: bytes, content: bytes) -> None:
        self._file.write(content)
        self._file.flush()


class Fleet:
    """One member, and a store."""

    def __init__(self, root: Path, password: str, port: int) -> None:
        self.root, self.password, self.port = root, password, port
        self.client: Any = pymongo.MongoClient("127.0.0.1", port, username="admin", password=password)
        (root / "store").mkdir()
        self.store = store.Store(
            store.Config(str(root / "store"), "fleet.example", "phoenix", 7, 93600, 0, 43200, 30, 0.25,
                         str(root / "metrics"), port, False)
        )  # fmt: skip
        self.store.prepare()
        (root / "password").write_text(json.dumps({"password": password}))
        self.sender = sender.Config(
            "db1", "store", "fleet.example", "phoenix", "127.0.0.1", ["127.0.0.1"], port, "backup", 30, 60, [], [],
            password=str(root / "password"),
        )  # fmt: skip

    def take(self, name: str) -> None:
        """Take a dump as a member does, received by the store."""
        folder = self.store.root / "dumps" / name
        folder.mkdir()
        manifest = sender._transfer(self.sender, Pipe(folder / "dump.archive.gz"), "of a test")  # type: ignore[arg-type]
        assert hashlib.sha256((folder / "dump.archive.gz").read_bytes()).hexdigest() == manifest["sha256"]
        (folder / "manifest.json").write_text(json.dumps(manifest))
        (folder / store.UNPROVEN).touch()
        receipt = {"number": self.store.next_number(), "elapsed": 0.0, "received": 0.0, "kind": "nightly",
                   "host": "db1", "request": ""}  # fmt: skip
        self.store.receipt(name).write_text(json.dumps(receipt))

    def dump(self, name: str = NAME) -> store.Dump:
        """Take a dump, verify it, and return it."""
        self.take(name)
        prove.run(self.store)
        return next(one for one in self.store.dumps() if one.name == name)

    def order(self, **more: Any) -> Order:
        return Order("admin", self.password, ["127.0.0.1"], **{"dump": NAME, **more})

    def restore(self, **more: Any) -> list[str]:
        """Plan and restore as the playbook does; the scratch server is not a unit here."""
        order = self.order(**more)
        plan.plan(self.store, order)
        dump = plan.choose(self.store.dumps(), order.dump)
        with scratch.holding(self.store, dump, order.collection):
            names = plan.wanted(dump, order.collection)
            gone = plan.planned(self.store, dump, order, names)
            with connect(self.store, order) as client:
                return restore.replace(self.store, order, dump, client, names, gone)

    def state(self) -> dict[str, Any]:
        return state_of(self.client)

    def empty(self) -> None:
        for name in self.client.list_database_names():
            if name not in fingerprint.SYSTEM_DATABASES:
                self.client.drop_database(name)


def unpack(folder: Path, *archives: str) -> None:
    for archive in archives:
        with tarfile.open(ARCHIVES / f"{archive}.tar") as packed:
            packed.extractall(folder, filter="tar")


@contextlib.contextmanager
def unpacked(server: str = "mongodb-6.0.5") -> Iterator[Path]:
    """The unpacked archives of the server and the tools."""
    folder = Path(tempfile.mkdtemp(prefix="phx-"))
    unpack(folder, server, "mongodb-tools-100.7.0")
    yield folder
    shutil.rmtree(folder)


@functools.cache
def found(folder: Path, name: str) -> Path:
    return next(folder.rglob(f"bin/{name}"))


def patch_scratch(patch: pytest.MonkeyPatch, programs: Path) -> None:
    """Have the scratch server run by these programs, at a port of its own."""
    patch.setattr(scratch, "TOOLS", found(programs, "mongodump").parent)
    patch.setattr(scratch, "SERVER", found(programs, "mongod"))
    patch.setattr(scratch, "PORT", free_port())


@contextlib.contextmanager
def one_member(programs: Path) -> Iterator[Fleet]:
    root = Path(tempfile.mkdtemp(prefix="phx-"))  # short: a socket's path is
    password, port = secrets.token_hex(8), free_port()
    (root / "key").write_text(secrets.token_hex(32))
    (root / "key").chmod(0o400)
    (root / "db").mkdir()
    server = subprocess.Popen(
        [found(programs, "mongod"), f"--dbpath={root / 'db'}", f"--port={port}", "--bind_ip=127.0.0.1",
         "--replSet=phoenix", f"--keyFile={root / 'key'}", "--oplogSize=200", "--wiredTigerCacheSizeGB=1",
         f"--logpath={root / 'log'}", "--setParameter=ttlMonitorSleepSecs=1", "--setParameter=enableTestCommands=1"],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        alone: Any = pymongo.MongoClient("127.0.0.1", port, directConnection=True, serverSelectionTimeoutMS=30000)
        alone.admin.command("replSetInitiate", {"_id": "phoenix", "members": [{"_id": 0, "host": f"127.0.0.1:{port}"}]})
        while not alone.admin.command("hello").get("isWritablePrimary"):
            time.sleep(0.1)
        alone.admin.command("createUser", "admin", pwd=password, roles=["root"])
        alone.close()
        fleet = Fleet(root, password, port)
        fleet.client.admin.command("createUser", "backup", pwd=password, roles=["backup"])
        yield fleet
    finally:
        server.terminate()
        server.wait(60)
        shutil.rmtree(root)
