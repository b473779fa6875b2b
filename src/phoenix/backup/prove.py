"""Verify dumps: one counts once it has been restored and its content equals its manifest."""

from __future__ import annotations

import errno
import fcntl
import fnmatch
import json
import shutil
import time
from collections.abc import Sequence
from typing import Any

from phoenix.backup import files, fingerprint, scratch
from phoenix.backup.store import RETURNED, UNPROVEN, Dump, Store
from phoenix.common import systemd

TRIES = 2
PUT_OFF = 60.0


def shrunken(dump: Dump, known: Sequence[Dump], floor: int, ignored: Sequence[str]) -> list[str]:
    """Pure: which collections of a dump are missing, or less than half of the most that a good dump here held.

    Measured against all good dumps that are kept, so that a slow loss adds up; an operator who accepts a dump makes it
    the first to measure against. floor: documents below which a collection may shrink; ignored: patterns of namespaces.
    """
    before = [one for one in known if one.state == "good" and one.counts and one.number < dump.number]
    start = max((index for index, one in enumerate(before) if one.accepted), default=0)
    now = _sizes(dump, ignored)
    found: dict[str, tuple[int, str]] = {}
    for earlier in before[start:]:
        for name, (old_documents, old_size) in _sizes(earlier, ignored).items():
            if old_documents < floor or old_documents < found.get(name, (0, ""))[0]:
                continue
            if name not in now:
                found[name] = (old_documents, f"{name} is missing ({old_documents} documents in {earlier.name})")
                continue
            documents, size = now[name]
            if documents * 2 < old_documents or size * 2 < old_size:
                found[name] = (
                    old_documents,
                    f"{name} holds {documents} documents in {size} bytes, less than half of the {old_documents} in "
                    f"{old_size} of {earlier.name}",
                )
    return [sentence for _, sentence in found.values()]


def _sizes(dump: Dump, ignored: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Documents and bytes of a dump's collections, and in total, without those that can't be counted."""
    patterns = (*ignored, "*.phoenix_*")  # made by a restore
    spaces = {
        name: one
        for name, one in fingerprint.from_json(dump.manifest["namespaces"]).items()
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    }
    sizes = {name: (one.documents, one.bytes or 0) for name, one in spaces.items() if one.documents is not None}
    return {**sizes, "everything": fingerprint.totals(spaces)}


def judge(
    dump: Dump, differences: Sequence[str], known: Sequence[Dump], floor: int = 100, ignored: Sequence[str] = ()
) -> tuple[str, str]:
    """Pure: state and reason of a dump that was restored. known: everything in the store."""
    if differences:
        return "bad", "; ".join(differences[:10])
    if not fingerprint.totals(fingerprint.from_json(dump.manifest["namespaces"]))[0]:
        return "empty", "it holds no document"
    if dump.kind != RETURNED and (less := shrunken(dump, known, floor, ignored)):
        more = f"; and {len(less) - 10} more" if len(less) > 10 else ""
        return "shrunken", (
            f"{'; '.join(less[:10])}{more}. If that is as it should be: phoenixctl backup accept {dump.name}"
        )
    return "good", ""


def settle(store: Store, dump: Dump, state: str, reason: str, seconds: float, accepted: bool = False) -> None:
    """Write the result, which takes effect at once."""
    assert dump.folder
    with store.books(quiet=True) as elapsed:
        pass
    proof = {
        "state": state,
        "reason": reason[:2000],
        "proven": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(seconds, 3),
        "accepted": accepted,
        "elapsed": elapsed,
    }
    files.write(dump.folder / "proof.json", json.dumps(proof))
    (dump.folder / UNPROVEN).unlink(missing_ok=True)
    print(f"{dump.name}: {state}{': ' + reason if reason else ''} ({seconds:.1f} s)", flush=True)


def _tries(dump: Dump) -> int:
    """Count the attempts, this one included: a verification that is killed each time must not repeat for ever."""
    assert dump.folder
    marker = dump.folder / UNPROVEN
    tries = int(marker.read_text(encoding="ascii").strip() or 0) + 1
    files.write(marker, str(tries))  # in one step: on a full disk the number stays
    return tries


def prove(store: Store, dump: Dump) -> None:
    begun = time.monotonic()
    if _tries(dump) > TRIES:
        settle(
            store, dump, "bad", f"the proof was interrupted {TRIES} times; see journalctl -u phoenix-backup-prove", 0.0
        )
        return
    try:
        scratch.check(store, dump)
        with scratch.serving(store, dump) as differences:
            config = store.config
            state, reason = judge(dump, differences, store.dumps(), config.shrink_floor, config.shrink_ignore)
    except scratch.Unproven as error:
        state, reason = "bad", str(error)
        if shutil.disk_usage(store.root).free < store.config.min_free:
            state, reason = "full", f"the store is full: {error}"
    except OSError as error:
        state, reason = ("full" if error.errno == errno.ENOSPC else "bad"), str(error)
    settle(store, dump, state, reason, time.monotonic() - begun)


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
    return int(failed)


def hold(store: Store, name: str) -> int:
    """Serve a dump from the scratch server for a restore, until SIGTERM; notifies READY once it is verified again."""
    found = next((one for one in store.dumps() if one.name == name and one.folder), None)
    if found is None:
        print(f"{name}: there is no such dump")
        return 1
    handle = (store.root / "scratch.lock").open("a")
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        scratch.check(store, found)
        with scratch.serving(store, found) as differences:
            if differences:
                raise scratch.Unproven("; ".join(differences[:10]))
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
    settle(store, found, "good", "accepted by an operator: " + found.reason, 0.0, accepted=True)
    store.touch()
    return 0
