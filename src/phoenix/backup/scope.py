"""What of a dump and of the oplog a restore needs: everything, one database, or one collection and what became it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from phoenix.backup import exchange
from phoenix.backup.archive import Moment

BUCKETS = "system.buckets."  # a time series' own collection; its name is that of a view
VIEWS = "system.views"
RENAME = "renameCollection"


@dataclass(frozen=True)
class Scope:
    """names: databases, and collections as DATABASE.COLLECTION; none: everything.

    A database is without what restores have left in it, which is not restored.
    """

    names: frozenset[str] = frozenset()

    @staticmethod
    def of(collection: str) -> Scope:
        """Of an order's collection or database, or of "" for all."""
        return Scope(frozenset([collection] if collection else []))

    def holds(self, name: str) -> bool:
        """Whether a namespace is within the scope."""
        database, _, title = name.partition(".")
        title = title.removeprefix(BUCKETS)
        whole = database in self.names and not exchange.own(title)
        return not self.names or whole or f"{database}.{title}" in self.names

    def followed(self, entries: Iterable[tuple[Moment, bytes]]) -> Scope:
        """With every name from which a rename in these entries of the oplog leads into the scope."""
        if not self.names:
            return self
        renames = list(_renames(entries))
        names = set(self.names)
        # Whenever they took place: a name too many costs its content, and is not restored.
        while more := {old for old, new in renames if Scope(frozenset(names)).holds(new)} - names:
            names |= more
        return Scope(frozenset(names))

    def part(self, change: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """What of a change concerns the scope: the change itself, a transaction with fewer changes, or None."""
        if not self.names or change["op"] == "n":
            return change
        database, _, title = change["ns"].partition(".")
        if change["op"] == "c":
            return self._command(database, change)
        if title == VIEWS:
            # A time series is a view as well.
            return change if self.holds(str(change.get("o2", change["o"]).get("_id"))) else None
        return change if self.holds(change["ns"]) else None

    def _command(self, database: str, change: Mapping[str, Any]) -> Mapping[str, Any] | None:
        order = change["o"]
        verb = next(iter(order), "")
        if "applyOps" in order:
            parts = [self.part(one) for one in order["applyOps"]]
            if all(part is one for part, one in zip(parts, order["applyOps"])):
                return change
            # Even with no change left: a transaction's entries name each other.
            return {**change, "o": {**order, "applyOps": [part for part in parts if part is not None]}}
        if verb == RENAME:
            held = self.holds(order[verb]) or self.holds(order["to"])
        elif verb == "dropDatabase":
            held = any(name.split(".", 1)[0] == database for name in self.names)
        else:
            # One that names no collection is judged by the replay.
            held = not isinstance(order[verb], str) or self.holds(f"{database}.{order[verb]}")
        return change if held else None


EVERYTHING = Scope()


def _renames(entries: Iterable[tuple[Moment, bytes]]) -> Iterable[tuple[str, str]]:
    """The renames among entries of the oplog, in order: from where, to where."""
    from bson.raw_bson import RawBSONDocument  # noqa: PLC0415 - the session that receives does without

    for _, entry in entries:
        if RENAME.encode() in entry:
            document = RawBSONDocument(entry)
            order = document["o"]
            if document["op"] == "c" and RENAME in order:
                yield order[RENAME], order["to"]
