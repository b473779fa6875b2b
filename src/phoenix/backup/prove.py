"""Verify dumps: one counts once it has been restored and its content equals its manifest."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import fnmatch
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from phoenix.backup import expiry, files, fingerprint, intake_logs, left_out, plan, scratch
from phoenix.backup.archive import Moment
from phoenix.backup.oplog.chain import Chain, bases, moment_of
from phoenix.backup.store import CHAIN, RETURNED, UNPROVEN, Dump, Store
from phoenix.common import systemd

TRIES = 2
PUT_OFF = 60.0
CHAIN_SECONDS = 60.0


def shrunken(dump: Dump, known: Sequence[Dump], floor: int, ignored: Sequence[str]) -> list[str]:
    """Pure: which collections of a dump are missing, or less than half of the most that a good dump here held.

    Measured against all good dumps that are kept, so that a slow loss adds up; an operator who accepts a dump makes it
    the first to measure against. What was to expire since is not missed; and a capped collection drops its oldest for
    fewer, larger documents, or for as many smaller ones, but not for fewer documents and bytes at once.
    floor: documents below which a collection may shrink; ignored: patterns of namespaces.
    """
    before = [one for one in known if one.state == "good" and one.counts and one.number < dump.number]
    start = max((index for index, one in enumerate(before) if one.accepted), default=0)
    now, moment = _sizes(dump, ignored), _seconds(dump)
    found: dict[str, tuple[int, str]] = {}
    for earlier in before[start:]:
        capped = {name for name, one in fingerprint.from_json(earlier.manifest["namespaces"]).items() if one.capped}
        for name, (old_documents, old_size) in _sizes(earlier, ignored, max(moment - _seconds(earlier), 0.0)).items():
            if old_documents < floor or old_documents < found.get(name, (0, ""))[0]:
                continue
            if name not in now:
                found[name] = (old_documents, f"{name} is missing ({old_documents} documents in {earlier.name})")
                continue
            documents, size = now[name]
            less = (documents * 2 < old_documents, size * 2 < old_size)
            if all(less) if name in capped else any(less):
                found[name] = (
                    old_documents,
                    f"{name} holds {documents} documents in {size} bytes, less than half of the {old_documents} in "
                    f"{old_size} of {earlier.name}{' that have not expired since' if name in earlier.expiry else ''}",
                )
    return [sentence for _, sentence in found.values()]


def _seconds(dump: Dump) -> float:
    """The moment of a dump, in seconds since 1970."""
    return float(dump.manifest.get("moment", (0, 0))[0])


def _sizes(dump: Dump, ignored: Sequence[str], after: float | None = None) -> dict[str, tuple[int, int]]:
    """Documents and bytes of a dump's collections, without those that were not counted, and in total.

    after: without what was to expire within so many seconds; None: as they are. What is capped is in no total, as it
    may lose most of its documents.
    """
    patterns = (*ignored, "*.phoenix_*")  # made by a restore
    held = fingerprint.from_json(dump.manifest["namespaces"])
    sizes = {
        name: (one.documents, one.bytes or 0)
        for name, one in dump.namespaces.items()
        if one.documents is not None and not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    }
    if after is not None:
        for name, hours in dump.expiry.items():
            if name in sizes:
                sizes[name] = expiry.lasting(*sizes[name], hours, after)
    counted = [size for name, size in sizes.items() if not held[name].capped]
    return {**sizes, "everything": (sum(one for one, _ in counted), sum(size for _, size in counted))}


def judge(
    dump: Dump, differences: Sequence[str], known: Sequence[Dump], floor: int = 100, ignored: Sequence[str] = ()
) -> tuple[str, str]:
    """Pure: state and reason of a dump that was restored. known: everything in the store."""
    if differences:
        return "bad", "; ".join(differences[:10])
    if not fingerprint.totals(dump.namespaces)[0]:
        others = [left_out.condition(name) for name in dump.manifest.get("left_out", ())]
        return "empty", "; ".join(["it holds no document", *others[:10]])
    if dump.kind != RETURNED and (less := shrunken(dump, known, floor, ignored)):
        more = f"; and {len(less) - 10} more" if len(less) > 10 else ""
        return "shrunken", (
            f"{'; '.join(less[:10])}{more}. If that is as it should be: phoenixctl backup accept {dump.name}"
        )
    return "good", ""


def settle(
    store: Store,
    dump: Dump,
    state: str,
    reason: str,
    seconds: float,
    accepted: bool = False,
    counted: Mapping[str, Any] = {},
    expires: Mapping[str, Mapping[str, int]] = {},
) -> None:
    """Write the result, which takes effect at once. counted, expires: as of Dump."""
    assert dump.folder
    with store.books(quiet=True) as elapsed:
        pass
    proof: dict[str, Any] = {
        "state": state,
        "reason": reason[:2000],
        "proven": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(seconds, 3),
        "accepted": accepted,
        "elapsed": elapsed,
        "counted": counted,
        "expiry": expires,
        "conditions": plan.conditions(dump)[:10] if state in plan.RESTORABLE else [],
    }
    files.write(dump.folder / "proof.json", json.dumps(proof))
    (dump.folder / UNPROVEN).unlink(missing_ok=True)
    print(f"{dump.name}: {state}{': ' + reason if reason else ''} ({seconds:.1f} s)", flush=True)
    for one in proof["conditions"]:
        print(f"{dump.name}: restorable with a condition: {one}", flush=True)


def _tries(dump: Dump) -> int:
    """Count the attempts, this one included: a verification that is killed each time must not repeat for ever."""
    assert dump.folder
    marker = dump.folder / UNPROVEN
    tries = int(marker.read_text(encoding="ascii").strip() or 0) + 1
    files.write(marker, str(tries))  # in one step: on a full disk the number stays
    return tries


def prove(store: Store, dump: Dump) -> None:
    begun, counted = time.monotonic(), dump
    if _tries(dump) > TRIES:
        settle(
            store, dump, "bad", f"the proof was interrupted {TRIES} times; see journalctl -u phoenix-backup-prove", 0.0
        )
        return
    try:
        scratch.check(store, dump)
        scratch.check_room(store, dump)
        with scratch.serving(store, dump) as differences:
            config, counted = store.config, dump if differences else _counted(store, dump)
            state, reason = judge(counted, differences, store.dumps(), config.shrink_floor, config.shrink_ignore)
    except scratch.Full as error:
        state, reason = "full", str(error)
    except scratch.Unproven as error:
        state, reason = "bad", str(error)
        if shutil.disk_usage(store.root).free < store.config.min_free:
            state, reason = "full", f"the store is full: {error}"
    except OSError as error:
        state, reason = ("full" if error.errno == errno.ENOSPC else "bad"), str(error)
    settle(store, dump, state, reason, time.monotonic() - begun, counted=counted.counted, expires=counted.expiry)


def _counted(store: Store, dump: Dump) -> Dump:
    """The same dump, with what the scratch server holds of what no member can read at its moment, and what expires."""
    names = [name for name, one in fingerprint.from_json(dump.manifest["namespaces"]).items() if one.documents is None]
    with contextlib.closing(scratch.client(store)) as client:
        found = fingerprint.to_json(fingerprint.take(client, names) if names else {})
        return replace(dump, counted=found, expiry=expiry.take(client, dump.manifest["namespaces"], _seconds(dump)))


def predecessor(dump: Dump, known: Sequence[Dump]) -> Dump | None:
    """Pure: the good dump from which the oplog should lead to this one: of the night before, or else the newest."""
    earlier = [one for one in bases(known) if one.counts and moment_of(one) < moment_of(dump)]
    return next((one for one in reversed(earlier) if one.kind == dump.kind), earlier[-1] if earlier else None)


def prove_chain(store: Store, dump: Dump, patience: float = CHAIN_SECONDS) -> None:
    """Verify that an earlier dump and the oplog since give this dump; the result is kept beside the dump's own.

    patience: seconds to wait for the oplog up to the dump's moment.
    """
    assert dump.folder
    begun, moment = time.monotonic(), moment_of(dump)
    limit = (moment[0], moment[1] + 1)
    base = predecessor(dump, store.dumps())
    if base is None:
        return
    chain = Chain(store.root)
    # Where nothing has been shipped, what comes now begins too late for the earlier dump.
    while (ranges := chain.ranges()) and ranges[-1].last < limit:
        if time.monotonic() - begun > patience:
            break
        time.sleep(1)
    if not any(one.holds(moment_of(base)) and one.holds(limit) for one in ranges):
        # A gap has alarms of its own; and where nothing has been shipped yet, there is nothing to verify.
        state, reason = (
            ("gap" if ranges else "none"),
            f"the store has not all of the oplog between {base.name} and {dump.name}",
        )
    else:
        state, reason = "good", ""
        try:
            if differences := _from(store, base, dump, limit):
                state, reason = "bad", "; ".join(differences[:10])
        except scratch.Full as error:
            state, reason = "full", str(error)
        except (scratch.Unproven, OSError) as error:
            state, reason = "full" if store.free() < store.config.min_free else "bad", str(error)
    seconds = round(time.monotonic() - begun, 3)
    result = {"state": state, "base": base.name, "reason": reason[:2000], "seconds": seconds}
    files.write(dump.folder / CHAIN, json.dumps(result))
    print(f"{dump.name}: the oplog since {base.name}: {state}{': ' + reason if reason else ''}", flush=True)


def _from(store: Store, base: Dump, dump: Dump, limit: Moment) -> list[str]:
    """Differences of base and the oplog up to limit from a dump. Raises scratch.Unproven, OSError."""
    scratch.check(store, base)
    # Of the base alone: nobody knows how much of the oplog changes what is there already, and takes no room of its own.
    scratch.check_room(store, base)
    with scratch.serving(store, base) as differences:
        if differences:
            return differences
        scratch.forward(store, base, limit)
        with contextlib.closing(scratch.client(store)) as client:
            seen = fingerprint.comparable(dump.manifest, fingerprint.take(client))
        # The content of time series is what the oplog leads to; of that of capped collections it has too little.
        proof = files.read_json((dump.folder or store.root) / "proof.json") or {}
        series = {
            name: one for name, one in proof.get("counted", proof.get("series", {})).items() if not one["indexes"]
        }
        return fingerprint.differences(replace(dump, counted=series).namespaces, seen)


def run(store: Store) -> int:
    """Verify unproven dumps, then apply the retention. Returns the exit code."""
    handle = (store.root / "scratch.lock").open("a")
    fcntl.flock(handle, fcntl.LOCK_EX)
    failed = False
    while waiting := [one for one in store.dumps() if one.folder and (one.folder / UNPROVEN).exists()]:
        dump = waiting[0]
        try:
            prove(store, dump)
        except OSError as error:
            # Not even the result could be written. The unit starts again at once while a dump is waiting.
            print(f"{dump.name}: put off for {PUT_OFF:g} s: {error}", flush=True)
            time.sleep(PUT_OFF)
            return 1
        store.touch()
        state = (files.read_json((dump.folder or store.root) / "proof.json") or {}).get("state")
        failed = failed or (state != "good" and dump.kind != "safety")
        if state == "good" and dump.counts:
            for verdict in store.prune():
                print(f"{verdict.name}: deleted, {verdict.reason}", flush=True)
            for name in intake_logs.forget(store):
                print(f"{name}: deleted, as its host is in the inventory no longer", flush=True)
            if dump.kind == "nightly":
                try:
                    prove_chain(store, dump)
                    store.touch()
                except OSError as error:
                    print(f"{dump.name}: the oplog that leads to it is not verified: {error}", flush=True)
            # What no dump that is kept can be continued with.
            if kept := [one for one in bases(store.dumps()) if one.counts]:
                Chain(store.root).prune(moment_of(kept[0]))
    return int(failed)


def hold(store: Store, instance: str) -> int:
    """Serve a dump from the scratch server for a restore, until SIGTERM; notifies READY once it is verified again.

    Ends by itself once that restore is gone: see scratch.noted.

    instance: the dump's name, or NAME:SECONDS for its content brought forward to that time. Of what a restore noted
    for this instance, only its collection or database is served.
    """
    name, _, seconds = instance.partition(":")
    found = next((one for one in store.dumps() if one.name == name and one.folder), None)
    if found is None:
        print(f"{name}: there is no such dump")
        return 1
    limit = (int(seconds), 0) if seconds else None
    # Before it waits for the lock, perhaps that of another restore's server: this one may be killed meanwhile, too.
    with scratch.noted(store, instance) as noted, (store.root / "scratch.lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        begun, collection = time.monotonic(), str(noted.get("collection", ""))
        try:
            with scratch.holding(store, found, collection, limit, look_for_room=scratch.UNCHECKED not in noted):
                print(f"{name}: ready after {time.monotonic() - begun:.1f} s", flush=True)
                files.write(store.root / scratch.SERVED, json.dumps({"instance": instance, "collection": collection}))
                systemd.notify("READY=1")
                _sleep()
        except scratch.Unproven as error:
            print(f"{name}: {error}", flush=True)
            return 1
    return 0


def _sleep() -> None:
    """Sleep until SIGTERM, which the command line turns into SystemExit."""
    while True:
        time.sleep(3600)


def accept(store: Store, name: str) -> int:
    """Accept a shrunken dump as good, on an operator's word."""
    found: Any = next((one for one in store.dumps() if one.name == name), None)
    if found is None or found.state != "shrunken":
        print(f"{name}: {'there is no such dump' if found is None else 'it is ' + found.state + ', not shrunken'}")
        return 1
    reason = "accepted by an operator: " + found.reason
    settle(store, found, "good", reason, 0.0, accepted=True, counted=found.counted, expires=found.expiry)
    store.touch()
    return 0
