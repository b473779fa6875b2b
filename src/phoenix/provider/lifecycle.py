"""The life of a host made on demand, as a pure state machine.

    claimed -> booting -> prepared -> standby <-> serving -> draining -> deleted

A state is an intention, recorded before anything is done about it: `claimed` before the host is created, `draining`
before it is drained, `deleted` before it is deleted. So a kill at any point leaves a record from which the next
reconcile() goes on, and a host that no record explains is one to delete. An entry ends when the provider's list no
longer has its host.

Only hosts with the tag of hosts on demand are ever in the list; those of an inventory have another one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from phoenix.provider.contract import Host

STATES = ("claimed", "booting", "prepared", "standby", "serving", "draining", "deleted")
LIVE = STATES[:5]  # capacity now or soon
PUBLISHED = ("standby", "serving", "draining")  # in control's inventory
HOUR = 3600.0


@dataclass(frozen=True)
class Limits:
    """What a fleet allows. Seconds: boot, until a host is prepared; settle, in which a creation whose end is not known
    may still appear; missing, for which a host may be missing from the list; retry, after the first failure, doubled
    up to retry_max.
    """

    hosts: int
    creations_per_hour: int
    boot: float = 600.0
    settle: float = 600.0
    missing: float = 60.0
    retry: float = 10.0
    retry_max: float = 600.0
    prefix: str = "extra"
    addresses: Sequence[str] = ()  # those to create hosts with, at least as many as hosts; (): the provider chooses


@dataclass(frozen=True)
class Entry:
    """One host. since: when it got into its state; tried: when its creation was last attempted (0: never);
    missing: since when the provider's list lacks it (0: it does not). All in seconds of the wall clock.
    """

    name: str
    state: str
    since: float
    id: str = ""
    address: str = ""
    tried: float = 0.0
    missing: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class Record:
    """All hosts on demand, by name. next: number of the next name; created: when creations of the last hour were
    attempted; retry_at: before which none is attempted; failures: in a row.
    """

    hosts: Mapping[str, Entry] = field(default_factory=dict)
    next: int = 1
    created: Sequence[float] = ()
    retry_at: float = 0.0
    failures: int = 0

    def count(self, states: Collection[str] = LIVE) -> int:
        return sum(entry.state in states for entry in self.hosts.values())


@dataclass(frozen=True)
class Action:
    """create, prepare, publish, drain or delete one host, which is always named.

    prepare: wait for SSH and run site.yml on it. publish: put it into control's inventory. drain: stop its instances,
    and take it out of the inventory; of a host that is gone, only the latter.
    """

    kind: str
    name: str
    id: str = ""
    address: str = ""


@dataclass(frozen=True)
class Plan:
    """record: to be stored before the first action is carried out. notes: for people, and for an alarm."""

    record: Record
    actions: Sequence[Action]
    notes: Sequence[str] = ()


class _Draft:
    """A record that is being rewritten."""

    def __init__(self, record: Record, now: float) -> None:
        self.hosts = dict(record.hosts)
        self.record, self.now = record, now
        self.notes: list[str] = []
        self.created = [moment for moment in record.created if moment > now - HOUR]
        self.next, self.retry_at, self.failures = record.next, record.retry_at, record.failures

    def move(self, name: str, state: str, reason: str = "", **values: Any) -> None:
        entry = replace(self.hosts[name], state=state, since=self.now, **values)
        self.hosts[name] = replace(entry, reason=reason or entry.reason)

    def end(self, name: str, reason: str) -> None:
        """On the way to its deletion: drained first, if it may hold instances."""
        entry = self.hosts[name]
        if entry.state in ("draining", "deleted"):
            return
        self.move(name, "draining" if entry.state in PUBLISHED else "deleted", reason)

    def finished(self) -> Record:
        return Record(self.hosts, self.next, tuple(self.created), self.retry_at, self.failures)


def reconcile(
    record: Record,
    listing: Sequence[Host] | None,
    wanted: int,
    busy: Collection[str],
    now: float,
    limits: Limits,
) -> Plan:
    """Compare what is recorded with what there is, and plan the next step of every host.

    listing: the provider's list, None while it is away; wanted: hosts on demand; busy: those that hold instances. What
    is there already is given back whatever the provider says.
    """
    draft = _Draft(record, now)
    there = {host.name: host for host in listing or ()}
    strays: list[Host] = []
    if listing is not None:
        _follow(draft, there, limits)
        strays = _strays(draft, listing, busy)
    _boots(draft, limits)
    _shrink(draft, min(wanted, limits.hosts))
    for name, entry in draft.hosts.items():
        if entry.state in ("standby", "serving"):
            state = "serving" if name in busy else "standby"
            if state != entry.state:
                draft.move(name, state)
    creations = _claims(draft, listing, len(strays), wanted, limits) if listing is not None else []
    verbs = {"draining": "drain", "booting": "prepare", "prepared": "publish"}
    actions = [
        Action(verbs[entry.state], entry.name, entry.id, entry.address)
        for state in verbs
        for entry in draft.hosts.values()
        if entry.state == state
    ]
    deletions = [
        Action("delete", name, there[name].id)
        for name, entry in draft.hosts.items()
        if entry.state == "deleted" and name in there
    ]
    deletions += [Action("delete", host.name, host.id) for host in strays]
    drains = [action for action in actions if action.kind == "drain"]
    others = [action for action in actions if action.kind != "drain"]
    return Plan(draft.finished(), [*drains, *deletions, *creations, *others], draft.notes)


def _follow(draft: _Draft, there: Mapping[str, Host], limits: Limits) -> None:
    """Follow the provider's list, in which nothing may be missing but what is claimed or deleted."""
    for name, entry in list(draft.hosts.items()):
        host = there.get(name)
        if host is not None and entry.id in ("", host.id):
            draft.hosts[name] = replace(entry, missing=0.0, id=host.id, address=host.address or entry.address)
            # One that does not run yet may have been cut off half-way: it is created again, which completes it.
            if entry.state == "claimed" and host.state == "running":
                draft.move(name, "booting")
            elif entry.state == "booting" and host.state == "error":
                draft.end(name, "its provider reports an error")
                _failed(draft, limits)
        elif entry.state == "deleted":
            # An attempt to create it whose end is not known may still succeed, and counts until then.
            if draft.now - entry.tried >= limits.settle:
                del draft.hosts[name]
        elif entry.state != "claimed" and not entry.missing:
            draft.hosts[name] = replace(entry, missing=draft.now)
        elif entry.state not in ("claimed", "draining") and draft.now - entry.missing >= limits.missing:
            draft.notes.append(f"{name} is gone from its provider: it was deleted by hand, or is lost")
            draft.end(name, "gone from its provider")


def _strays(draft: _Draft, listing: Sequence[Host], busy: Collection[str]) -> list[Host]:
    """The hosts that no entry explains, which are deleted. What serves is recorded again: the record was lost."""
    strays = []
    for host in listing:
        known = draft.hosts.get(host.name)
        if known is None and host.name in busy:
            draft.hosts[host.name] = Entry(host.name, "serving", draft.now, host.id, host.address, tried=draft.now)
            draft.notes.append(f"{host.name} serves and was not recorded: it is again")
        elif known is None or known.id != host.id:
            strays.append(host)
            draft.notes.append(f"{host.name} ({host.id}) has the fleet's tag and no record: it is deleted")
    return strays


def _boots(draft: _Draft, limits: Limits) -> None:
    for name, entry in list(draft.hosts.items()):
        if entry.state == "booting" and draft.now - entry.since >= limits.boot:
            draft.notes.append(f"{name} was not ready after {limits.boot:g} s: it is deleted")
            draft.end(name, f"not ready after {limits.boot:g} s")
            _failed(draft, limits)


def _shrink(draft: _Draft, wanted: int) -> None:
    """Give back what is not wanted: what serves least first, the newest first."""
    live = sorted(
        (entry for entry in draft.hosts.values() if entry.state in LIVE),
        key=lambda entry: (LIVE.index(entry.state), -entry.since, entry.name),
    )
    for entry in live[: max(0, len(live) - wanted)]:
        draft.end(entry.name, "not wanted any more")


def _claims(draft: _Draft, listing: Sequence[Host], strays: int, wanted: int, limits: Limits) -> list[Action]:
    """Claim what is missing, and create what is claimed; an attempt is recorded before it is made."""
    numbers = [re.fullmatch(rf"{re.escape(limits.prefix)}-(\d+)", host.name) for host in listing]
    draft.next = max([draft.next, *(int(match[1]) + 1 for match in numbers if match)])
    if wanted > limits.hosts:
        draft.notes.append(f"{wanted} hosts on demand are wanted, and {limits.hosts} are allowed")
    if draft.now < draft.retry_at:
        return []
    claimed = [name for name, entry in draft.hosts.items() if entry.state == "claimed"]
    missing = wanted - sum(entry.state in LIVE for entry in draft.hosts.values())
    allowed = limits.creations_per_hour - len(draft.created)
    taken = {entry.address for entry in draft.hosts.values()} | {host.address for host in listing}
    for _ in range(min(missing, limits.hosts - len(draft.hosts) - strays, allowed - len(claimed))):
        name = f"{limits.prefix}-{draft.next}"
        draft.next += 1
        address = next((free for free in limits.addresses if free not in taken), "")
        taken.add(address)
        draft.hosts[name] = Entry(name, "claimed", draft.now, address=address)
        claimed.append(name)
    if missing > 0 and allowed <= 0:
        draft.notes.append(f"{limits.creations_per_hour} creations an hour are allowed, and were attempted")
    for name in claimed[: max(0, allowed)]:
        draft.hosts[name] = replace(draft.hosts[name], tried=draft.now)
        draft.created.append(draft.now)
    return [Action("create", name, address=draft.hosts[name].address) for name in claimed[: max(0, allowed)]]


def _failed(draft: _Draft, limits: Limits) -> None:
    draft.retry_at = draft.now + min(limits.retry_max, limits.retry * 2 ** min(draft.failures, 20))
    draft.failures += 1


def done(record: Record, action: Action, now: float, host: Host | None = None) -> Record:
    """The record after an action that succeeded. host: the one that was created."""
    entry = record.hosts.get(action.name)
    follows = {"create": "claimed", "prepare": "booting", "publish": "prepared", "drain": "draining"}
    if entry is None or follows.get(action.kind) != entry.state:
        return record  # a deletion is done when the list no longer has the host
    draft = _Draft(record, now)
    if action.kind == "create":
        assert host is not None
        draft.move(action.name, "booting", id=host.id, address=host.address)
        draft.retry_at, draft.failures = 0.0, 0
    else:
        draft.move(action.name, {"prepare": "prepared", "publish": "standby", "drain": "deleted"}[action.kind])
    return draft.finished()


def failed(record: Record, action: Action, now: float, limits: Limits) -> Record:
    """The record after an action that failed: it is planned again, a creation not before some time has passed."""
    draft = _Draft(record, now)
    if action.kind == "create":
        _failed(draft, limits)
    return draft.finished()
