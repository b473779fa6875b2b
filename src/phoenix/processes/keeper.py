"""Keeps this host's share of the fleet's slots: takes leases, starts and stops units. One tick after another.

At no time do two hosts run the same slot: what runs is stopped before anybody else may take its lease (model.LEASE).
That holds for a host that is cut off, a database without a primary, and a restore that replaces the leases. It rests
on two things: systemd ends a unit within its time to stop, and clocks run equally fast on all hosts, whatever they
show. A host that is suspended as a whole may go on for a moment when it wakes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from phoenix.processes import model
from phoenix.processes.leases import Unreachable
from phoenix.processes.model import Lease, Process, Running, Target


class Store(Protocol):
    def read(self) -> Mapping[str, Lease]: ...
    def renew(self, slot: str, holder: str, target: Target) -> bool: ...
    def take(self, slot: str, seen: Lease | None, holder: str, target: Target) -> bool: ...
    def release(self, slot: str, holder: str) -> bool: ...


class Units(Protocol):
    def running(self) -> Mapping[str, Running]: ...
    def start(self, slot: str, process: Process, target: Target) -> None: ...
    def stop(self, slot: str) -> None: ...
    def forget(self, slot: str) -> None: ...


class StartError(Exception):
    """A unit can't be started; the text says why."""


@dataclass
class Seen:
    """A lease as it was seen last, and since when it has not changed."""

    lease: Lease | None
    since: float


@dataclass
class Keeper:
    """host: the name under which this host holds leases, its own in the fleet; clock counts a suspension too."""

    host: str
    units: Units
    clock: Callable[[], float]
    held: dict[str, float] = field(default_factory=dict)  # slot -> when its last confirmed renewal began
    seen: dict[str, Seen] = field(default_factory=dict)
    error: str = ""

    def tick(
        self, store: Store | None, target: Target, processes: Mapping[str, Process], eligible: bool, start: bool = True
    ) -> None:
        """Renew, take, start and stop what is due. Without a store (no process yet), nothing is held.

        start: whether units may be started already; until the keeper is ready, systemd would have them wait for it.
        """
        slots = model.slots(processes)
        self.error = ""
        running = self.units.running()
        if store is not None:
            try:
                self._renew(store, target, slots)
                self._give_back(store, slots, running, eligible)
                if eligible:
                    self._take(store, target, slots, running)
            except Unreachable as error:
                self.error = f"the leases can't be read or written: {error}"
        now = self.clock()
        for slot in [slot for slot, since in self.held.items() if now - since > model.GIVE_UP]:
            del self.held[slot]
        for slot, unit in running.items():
            if (slot not in self.held or slot not in slots or not eligible) and not unit.stopping:
                self.units.stop(slot)
        if eligible and start:
            self._run(target, slots, running)

    def _renew(self, store: Store, target: Target, slots: Mapping[str, Process]) -> None:
        for slot, since in list(self.held.items()):
            now = self.clock()
            if now - since >= model.RENEW:
                if store.renew(slot, self.host, target):
                    self.held[slot] = now
                else:  # restored to another time, or removed by hand
                    del self.held[slot]
        leases = store.read()
        now = self.clock()
        for slot in slots:
            lease = leases.get(slot)
            if slot not in self.seen or self.seen[slot].lease != lease:
                self.seen[slot] = Seen(lease, now)

    def _give_back(
        self, store: Store, slots: Mapping[str, Process], running: Mapping[str, Running], eligible: bool
    ) -> None:
        for slot in list(self.held):
            if (not eligible or slot not in slots) and slot not in running:
                del self.held[slot]  # first: it is not to be started, however the call ends
                store.release(slot, self.host)

    def _take(self, store: Store, target: Target, slots: Mapping[str, Process], running: Mapping[str, Running]) -> None:
        """At most one that was another's, for the next one may be taken by a host that has fewer."""
        for slot, process in slots.items():
            now, own = self.clock(), self._owner(slot) == self.host
            if slot in self.held or not (own or (slot not in running and self._free(slot, process, target, now))):
                continue
            if store.take(slot, self.seen[slot].lease, self.host, target):
                self.held[slot] = now
                if not own:
                    self.units.forget(slot)
                    return

    def _free(self, slot: str, process: Process, target: Target, now: float) -> bool:
        """Whether this host may take what is another's: it was released, or has lapsed."""
        seen = self.seen[slot]
        wait = 0.0 if seen.lease is not None and not seen.lease.holder else process.lease
        return now - seen.since >= wait + len(self.held) * model.SPREAD and not older(target, seen.lease)

    def _owner(self, slot: str) -> str:
        lease = self.seen[slot].lease
        return lease.holder if lease else ""

    def _run(self, target: Target, slots: Mapping[str, Process], running: Mapping[str, Running]) -> None:
        for slot in self.held:
            if slot not in slots:
                continue
            unit = running.get(slot)
            if unit is None:
                try:
                    self.units.start(slot, slots[slot], target)
                except StartError as error:
                    self.error = f"{slot}: {error}"
            elif unit.revision != target.revision and not unit.stopping and not unit.busy:
                self.units.stop(slot)

    def leave(self, store: Store | None) -> None:
        """Give back what is not running any more, when this host stops."""
        running = self.units.running()
        for slot in [slot for slot in self.held if slot not in running]:
            del self.held[slot]
            if store is not None:
                store.release(slot, self.host)

    def status(self, target: Target, processes: Mapping[str, Process], eligible: bool) -> dict[str, Any]:
        """For people, and for who waits: each slot's holder as far as it is known here."""
        now = self.clock()
        holders = {
            slot: self.host if slot in self.held else "" if self._lapsed(slot, process, now) else self._owner(slot)
            for slot, process in model.slots(processes).items()
        }
        return {
            "host": self.host,
            "release": target.release,
            "configuration": target.configuration,
            "eligible": eligible,
            "holders": holders,
            "error": self.error,
        }

    def _lapsed(self, slot: str, process: Process, now: float) -> bool:
        seen = self.seen.get(slot)
        return seen is None or now - seen.since >= process.lease


def older(target: Target, lease: Lease | None) -> bool:
    """Whether this host was left behind by a roll-out: the slot ran another release, which was given later."""
    return lease is not None and lease.release != target.release and lease.since > target.since
