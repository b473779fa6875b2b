"""Brings a dump back into the running replica set, without a moment in which half of it is there.

1. The archive is checked and proven once more in the scratch server: what is damaged or foreign ends here.
2. Its collections are copied beside the live ones, and compared with the manifest there.
3. Only when all are equal, each takes the live one's place in one step (renameCollection).
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from phoenix.backup import fingerprint, scratch
from phoenix.backup.store import NAME, Dump, Store

BESIDE = "phoenix_restoring."
RESTORABLE = ("good", "shrunken")


class Refused(Exception):
    """Nothing was touched, or nothing live; the message says why."""


@dataclass(frozen=True)
class Order:
    """dump: a name, or "newest"; collection: "database.collection", or empty for all."""

    dump: str
    collection: str
    user: str
    password: str
    members: list[str]


def choose(known: list[Dump], name: str) -> Dump:
    """Pure: the dump that is meant. Raises Refused."""
    if name == "newest":
        good = [one for one in known if one.folder and one.state == "good" and one.kind != "safety"]
        if not good:
            raise Refused("the store holds no good dump")
        return good[-1]
    if not NAME.fullmatch(name):
        raise Refused(f"{name!r} is no name of a dump")
    found = next((one for one in known if one.folder and one.name == name), None)
    if found is None:
        raise Refused(f"the store holds no dump {name}: see phoenix-backup list")
    if found.state not in RESTORABLE:
        raise Refused(f"{name} is {found.state}, not proven: {found.reason}")
    return found


def wanted(dump: Dump, collection: str) -> dict[str, fingerprint.Collection]:
    """Pure: what shall be restored. Raises Refused."""
    found = fingerprint.from_json(dump.manifest["namespaces"])
    if not collection:
        return found
    if collection not in found:
        raise Refused(f"{dump.name} holds no collection {collection}; it holds {', '.join(sorted(found))}")
    return {collection: found[collection]}


def surplus(live: Mapping[str, Any], restored: Mapping[str, Any], collection: str) -> list[str]:
    """Pure: live collections of the restored databases that did not exist at the dump's moment."""
    if collection:
        return []
    databases = {name.split(".", 1)[0] for name in restored}
    return sorted(name for name in live if name.split(".", 1)[0] in databases and name not in restored)


def _live(store: Store, order: Order) -> Any:
    import pymongo  # noqa: PLC0415 - the session that receives does without

    return pymongo.MongoClient(
        [f"{address}:{store.config.port}" for address in order.members], replicaSet=store.config.replica_set,
        username=order.user, password=order.password, serverSelectionTimeoutMS=15000, w="majority",
        readConcernLevel="majority",
    )  # fmt: skip


def plan(store: Store, order: Order) -> tuple[str, list[str]]:
    """The name of the dump that is meant, and what a restore would do, in lines. Raises Refused."""
    dump = choose(store.dumps(), order.dump)
    names = wanted(dump, order.collection)
    try:
        scratch.check(store, dump)
    except scratch.Unproven as error:
        raise Refused(f"{dump.name}: {error}") from error
    with contextlib.closing(_live(store, order)) as client:
        live = _counts(client)
    lines = [
        f"dump {dump.name}, {dump.state}: the data of {dump.manifest['moment_utc']}, from {dump.manifest['member']}, "
        f"MongoDB {dump.manifest['server_version']}"
    ]
    lines += [
        f"{name}: {live.get(name, 'no')} documents now, {'?' if one.documents is None else one.documents} from the dump"
        for name, one in sorted(names.items())
    ]
    lines += [f"{name}: {live[name]} documents now, dropped" for name in surplus(live, names, order.collection)]
    return dump.name, lines


def _counts(client: Any) -> dict[str, int]:
    """Documents, as the server estimates them, of all collections that are neither the system's nor of a restore."""
    return {
        f"{name}.{shown['name']}": client[name][shown["name"]].estimated_document_count()
        for name in client.list_database_names()
        if name not in fingerprint.SYSTEM_DATABASES
        for shown in client[name].list_collections()
        if shown.get("type", "collection") != "view" and not shown["name"].startswith(("system.", BESIDE))
    }


def run(store: Store, order: Order) -> str:
    """Restore; returns what was done, in lines. Raises Refused, and pymongo's errors."""
    dump = choose(store.dumps(), order.dump)
    names = wanted(dump, order.collection)
    unit = f"phoenix-backup-scratch@{dump.name}.service"
    # No dump meanwhile: it would hold what lies beside the live collections.
    held = store.claim()
    if held is None:
        raise Refused("a dump is being received: try again when it is there")
    try:
        if subprocess.run(["systemctl", "start", unit], check=False).returncode:
            raise Refused(f"{dump.name} can't be proven again, nothing was touched: journalctl -u {unit}")
        with contextlib.closing(_live(store, order)) as client:
            _clean(client)
            try:
                _copy(store, order)
                _compare(client, dump, names)
                gone = surplus(_counts(client), names, order.collection)
                _switch(client, names, gone)
                if not order.collection:
                    _restore_views(store, client)
            finally:
                _clean(client)
    finally:
        held.close()
        subprocess.run(["systemctl", "stop", unit], check=False)
        subprocess.run(["systemctl", "reset-failed", unit], check=False, stderr=subprocess.DEVNULL)
    documents, _ = fingerprint.totals(names)
    lines = [
        f"restored {len(names)} collections with {documents} documents, equal to the manifest of {dump.name} "
        f"({dump.manifest['moment_utc']})"
    ]
    lines += [f"dropped {name}, which did not exist then" for name in gone]
    return "\n".join(lines)


def _copy(store: Store, order: Order) -> None:
    """From the scratch server to collections beside the live ones. Raises Refused."""
    hosts = ",".join(f"{address}:{store.config.port}" for address in order.members)
    selection = (
        [f"--nsInclude={order.collection}"] if order.collection else ["--nsExclude=admin.*", "--nsExclude=config.*"]
    )
    with tempfile.NamedTemporaryFile("w", prefix="phoenix-restore-") as secret:  # 0600
        json.dump({"password": order.password}, secret)
        secret.flush()
        source = subprocess.Popen(
            [str(scratch.TOOLS / "mongodump"), f"--uri={scratch.uri(store)}", "--archive", "--quiet"],
            stdout=subprocess.PIPE,
        )
        target = subprocess.run(
            [str(scratch.TOOLS / "mongorestore"), f"--config={secret.name}",
             f"--host={store.config.replica_set}/{hosts}", f"--username={order.user}",
             "--authenticationDatabase=admin", "--archive", *selection, "--nsFrom=$db$.$name$",
             f"--nsTo=$db$.{BESIDE}$name$", "--writeConcern={w: 'majority'}", "--stopOnError"],
            stdin=source.stdout, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert source.stdout
        source.stdout.close()
        if source.wait() or target.returncode:
            raise Refused(f"copying failed, the live data is untouched: {' | '.join(target.stderr.splitlines()[-3:])}")


def _compare(client: Any, dump: Dump, names: Mapping[str, fingerprint.Collection]) -> None:
    """Raises Refused when what was copied is not what the manifest says."""
    databases = {name.split(".", 1)[0] for name in names}
    copied = {
        name.replace(f".{BESIDE}", ".", 1): one
        for name, one in fingerprint.take(client, databases).items()
        if name.split(".", 1)[1].startswith(BESIDE)
    }
    if told := fingerprint.differences(names, copied):
        raise Refused(
            f"the copy differs from {dump.name}'s manifest, the live data is untouched: {'; '.join(told[:5])}"
        )


def _switch(client: Any, names: Mapping[str, Any], gone: list[str]) -> None:
    for name in names:
        database, title = name.split(".", 1)
        client.admin.command(
            "renameCollection", f"{database}.{BESIDE}{title}", to=name, dropTarget=True, writeConcern={"w": "majority"}
        )
    for name in gone:
        database, title = name.split(".", 1)
        client[database].drop_collection(title)
    # mongodump refuses to begin at a rename, which would be the oplog's newest entry until something else is written.
    client.admin.command("appendOplogNote", data={"phoenix": "restored"})


def _restore_views(store: Store, client: Any) -> None:
    """Views are definitions, not data: made anew as the dump has them."""
    with contextlib.closing(scratch.client(store)) as source:
        for name in source.list_database_names():
            if name in fingerprint.SYSTEM_DATABASES:
                continue
            for shown in source[name].list_collections(filter={"type": "view"}):
                client[name].drop_collection(shown["name"])
                client[name].command({"create": shown["name"], **shown["options"]})


def _clean(client: Any) -> None:
    """Drop what this or a broken restore left beside the live collections."""
    for name in client.list_database_names():
        if name in fingerprint.SYSTEM_DATABASES:
            continue
        for title in client[name].list_collection_names():
            if title.startswith(BESIDE):
                client[name].drop_collection(title)


def verify(store: Store, order: Order) -> list[str]:
    """What the live data has otherwise than the dump; for a fleet that nobody writes to. Raises Refused."""
    dump = choose(store.dumps(), order.dump)
    names = wanted(dump, order.collection)
    with contextlib.closing(_live(store, order)) as client:
        seen = fingerprint.take(client, {name.split(".", 1)[0] for name in names})
    return fingerprint.differences(
        names, {name: one for name, one in seen.items() if name in names or not order.collection}
    )


def read_order(text: str) -> Order:
    """Raises ValueError or TypeError. The order comes over standard input: it holds a password."""
    order = Order(**json.loads(text))
    os.umask(0o077)
    return order
