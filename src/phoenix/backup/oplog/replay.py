"""Replay the oplog on the scratch server, entry by entry, through applyOps.

mongorestore's own replay is for the oplog of a dump: it builds indexes last and does not follow renames, so that over
a day it neither drops or changes an index that the dump has, nor finds one whose collection was renamed.
https://github.com/mongodb/mongo-tools/blob/100.7.0/mongorestore/oplog.go
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from phoenix.backup import definitions, fingerprint
from phoenix.backup.archive import Moment
from phoenix.backup.scope import EVERYTHING, RENAME, VIEWS, Scope

# Entries that are applied at once; more of them gain nothing.
BATCH, BATCH_BYTES = 1000, 4 * 1024 * 1024
# What applyOps can't carry: a command is a document, and no larger than one.
LARGE = 12 * 1024 * 1024
# No change of data: index builds count when they are committed.
IGNORED = ("startIndexBuild", "abortIndexBuild", "setMultikeyMetadata", "dbCheck")
APPLIED = ("create", "drop", "dropDatabase", "collMod", "convertToCapped", "emptycapped")
DROP_INDEX = ("dropIndexes", "dropIndex", "deleteIndexes", "deleteIndex")


class Unreplayable(Exception):
    """An entry can't be replayed."""


class Replay:
    """client: of the scratch server, whose content is that of the moment `since`: entries up to it are not applied.

    scope: what the scratch server has, with all names that renames lead from.
    """

    def __init__(self, client: Any, since: Moment, scope: Scope) -> None:
        self.client, self.since, self.scope = client, since, scope
        self.applied = 0
        self._batch: list[Mapping[str, Any]] = []
        self._bytes = 0
        self._open: dict[bytes, tuple[Moment, list[Any]]] = {}  # transactions so far: their last entry, their changes

    def feed(self, moment: Moment, entry: bytes) -> None:
        """Apply an entry, now or with the next ones. Raises Unreplayable, pymongo's errors."""
        from bson.raw_bson import RawBSONDocument  # noqa: PLC0415 - the session that receives does without

        document = RawBSONDocument(entry)
        if document["op"] == "n":
            return
        if document["op"] == "c" and "applyOps" in document["o"]:
            for change in self._transaction(moment, entry, document):
                self._change(change)
        elif moment > self.since:
            self._change(document)

    def finish(self) -> int:
        """Apply what is left; returns how many entries and changes of transactions were applied.

        A transaction that has not ended by now is not applied.
        """
        self._flush()
        return self.applied

    def _transaction(self, moment: Moment, entry: bytes, document: Mapping[str, Any]) -> list[Any]:
        """The changes of a transaction that ends with this entry; none while it goes on.

        A large one has several entries, of which each names the one before. Those before `since` are kept as well: the
        scratch server has nothing of a transaction that ended later.
        """
        order = document["o"]
        if order.get("prepare"):
            raise Unreplayable(f"{moment} is a prepared transaction, which only a sharded cluster has")
        changes = list(order["applyOps"])
        if "txnNumber" not in document:
            return changes if moment > self.since else []
        key = document["lsid"].raw + int(document["txnNumber"]).to_bytes(8, "big", signed=True)
        before = document.get("prevOpTime", {}).get("ts")
        if before is not None and before.time:
            last, earlier = self._open.pop(key, ((0, 0), []))
            if last != (before.time, before.inc):
                if moment <= self.since:
                    return []
                raise Unreplayable(f"{moment} ends a transaction that began before what is there of the oplog")
            changes = earlier + changes
        if order.get("partialTxn"):
            self._open[key] = (moment, changes)
            return []
        return changes if moment > self.since else []

    def _change(self, change: Mapping[str, Any]) -> None:
        kind, name, order = change["op"], change["ns"], change["o"]
        if kind == "n" or name.split(".", 1)[0] in fingerprint.SYSTEM_DATABASES or self.scope.part(change) is None:
            return
        self.applied += 1
        if kind == "c":
            self._flush()
            self._command(name.split(".", 1)[0], dict(order))
            return
        size = len(order.raw)
        if size > LARGE:
            self._flush()
            self._large(kind, name, change)
            return
        # The server notices a changed view only if the change stands alone.
        alone = name.endswith(f".{VIEWS}")
        if alone or self._bytes + size > BATCH_BYTES or len(self._batch) >= BATCH:
            self._flush()
        self._batch.append({"op": kind, "ns": name, "o": order, **({"o2": change["o2"]} if "o2" in change else {})})
        self._bytes += size
        if alone:
            self._views(name.split(".", 1)[0])
            self._flush()

    def _views(self, database: str) -> None:
        """Make the collection of a database's views: in a scope it has no place, but a time series needs it."""
        if self.scope.names and not self.client[database].list_collection_names(filter={"name": VIEWS}):
            self._apply([{"op": "c", "ns": f"{database}.$cmd", "o": {"create": VIEWS}}])

    def _flush(self) -> None:
        if self._batch:
            batch, self._batch, self._bytes = self._batch, [], 0
            self._apply(batch)

    def _apply(self, operations: list[Mapping[str, Any]]) -> None:
        done = self.client.admin.command("applyOps", operations, bypassDocumentValidation=True)
        if not all(done["results"]):
            raise Unreplayable(f"the server did not apply {operations[done['results'].index(False)]}")

    def _large(self, kind: str, name: str, change: Mapping[str, Any]) -> None:
        """Insert or replace a document that is almost as large as a command may be."""
        database, title = name.split(".", 1)
        if kind not in ("i", "u") or "_id" not in change["o"]:
            raise Unreplayable(f"a change of {len(change['o'].raw)} bytes in {name} can't be replayed")
        self.client[database][title].replace_one(
            {"_id": change["o"]["_id"]}, change["o"], upsert=True, bypass_document_validation=True
        )

    def _command(self, database: str, order: dict[str, Any]) -> None:
        verb = next(iter(order))
        if verb == "commitIndexBuild":
            self._index(database, order[verb], [dict(one) for one in order["indexes"]])
        elif verb == "createIndexes":
            self._index(database, order[verb], [{key: order[key] for key in order if key != verb}])
        # Commands: without the UUIDs of the members' collections, applyOps drops neither a rename's target nor indexes.
        elif verb == RENAME and not self.scope.holds(order["to"]):
            self.client[database].drop_collection(order[verb].split(".", 1)[1])
        elif verb == RENAME:
            self.client.admin.command(verb, order[verb], to=order["to"], dropTarget=bool(order.get("dropTarget")))
        elif verb in DROP_INDEX:
            self.client[database].command("dropIndexes", order[verb], index=order["index"])
        elif verb in APPLIED:
            self._apply([{"op": "c", "ns": f"{database}.$cmd", "o": order}])
        elif verb not in IGNORED:
            raise Unreplayable(f"the command {verb} is unknown")

    def _index(self, database: str, title: str, specifications: list[dict[str, Any]]) -> None:
        collated = "collation" in definitions.options_of(self.client, f"{database}.{title}")
        made = [definitions.indexed(one, collated) for one in specifications]
        self.client[database].command({"createIndexes": title, "indexes": made})


def replay(client: Any, entries: Iterable[tuple[Moment, bytes]], since: Moment, scope: Scope = EVERYTHING) -> int:
    """Bring the scratch server from `since` to the last of the entries. Returns how many changes were applied.

    Raises Unreplayable, pymongo's errors.
    """
    run = Replay(client, since, scope)
    for moment, entry in entries:
        run.feed(moment, entry)
    return run.finish()
