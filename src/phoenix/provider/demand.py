"""Carries out the life of hosts on demand: record first, then act (lifecycle.py decides)."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from phoenix.common import files
from phoenix.provider import lifecycle
from phoenix.provider.contract import Error, Host
from phoenix.provider.lifecycle import STATES, Action, Entry, Limits, Record


class Corrupt(ValueError):
    """The record can't be understood: nothing is done with it, because every host would seem to be a stray."""


class NotDone(Exception):
    """A worker's action failed; it is planned again."""


class Worker(Protocol):
    """What is done to hosts, other than by listing them. Methods raise contract.Error or NotDone."""

    def create(self, name: str, address: str) -> Host: ...
    def prepare(self, name: str, address: str) -> None: ...
    def publish(self, name: str, address: str) -> None: ...
    def drain(self, name: str, address: str) -> None: ...
    def delete(self, identity: str) -> bool: ...


@dataclass(frozen=True)
class Store:
    """The record on disk: one file, replaced atomically and durably."""

    path: Path

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Exclude other processes from reading the record to the last action."""
        with self.path.with_name(f".{self.path.name}.guard").open("w") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            yield

    def load(self) -> Record:
        """Raises Corrupt."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return Record()
        try:
            values = json.loads(text)
            hosts = {name: Entry(**entry) for name, entry in values.pop("hosts").items()}
            record = Record(hosts=hosts, created=tuple(values.pop("created")), **values)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise Corrupt(
                f"{self.path} is not a record of hosts ({error!r}): restore it from a backup. Without it, hosts that "
                "do not serve are deleted"
            ) from error
        wrong = sorted(name for name, entry in hosts.items() if entry.state not in STATES or entry.name != name)
        if wrong:
            raise Corrupt(f"{self.path} has no valid state or name of {', '.join(wrong)}: correct it")
        return record

    def save(self, record: Record) -> None:
        files.replace(self.path, json.dumps(asdict(record), indent=1, sort_keys=True) + "\n", durable=True)


def step(
    store: Store,
    listing: Callable[[], Sequence[Host]],
    worker: Worker,
    wanted: int,
    busy: Collection[str],
    clock: Callable[[], float],
    limits: Limits,
) -> list[str]:
    """Take every host one step further and return notes for people; to be repeated.

    What is not wanted is drained before the provider is asked for anything.
    """
    with store.held():
        plan = lifecycle.reconcile(store.load(), None, wanted, busy, clock(), limits)
        drains = [action for action in plan.actions if action.kind == "drain"]
        notes = [*plan.notes, *_carry_out(store, plan.record, drains, worker, clock, limits)]
        try:
            there = listing()
        except Error as error:
            return [*notes, f"the provider has no list: {error}"]
        plan = lifecycle.reconcile(store.load(), there, wanted, busy, clock(), limits)
        tried = {action.name for action in drains}
        rest = [action for action in plan.actions if not (action.kind == "drain" and action.name in tried)]
        return [*notes, *plan.notes, *_carry_out(store, plan.record, rest, worker, clock, limits)]


def _carry_out(
    store: Store,
    record: Record,
    actions: Sequence[Action],
    worker: Worker,
    clock: Callable[[], float],
    limits: Limits,
) -> list[str]:
    store.save(record)
    notes = []
    for action in actions:
        try:
            record = lifecycle.done(record, action, clock(), _perform(action, worker))
        except (Error, NotDone) as error:
            notes.append(f"{action.kind} {action.name}: {error}")
            record = lifecycle.failed(record, action, clock(), limits)
        store.save(record)
    return notes


def _perform(action: Action, worker: Worker) -> Host | None:
    if action.kind == "create":
        return worker.create(action.name, action.address)
    if action.kind == "delete":
        worker.delete(action.id)
    else:
        perform = {"prepare": worker.prepare, "publish": worker.publish, "drain": worker.drain}[action.kind]
        perform(action.name, action.address)
    return None
