"""Receive a dump: who may send one, whether it fits, and that an incomplete one is never accepted."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

from phoenix.backup import files, fingerprint, frames, room
from phoenix.backup.store import KINDS, RETURNED, UNPROVEN, Dump, Store


def admit(known: list[Dump], kind: str, request: str, ready: bool, now: float, interval: float) -> tuple[str, str]:
    """Pure: the answer to a request to dump while no dump is running: have (and which), wait, or go.

    now: running time of the store; interval: seconds within which a second nightly dump is not wanted.
    """
    for one in reversed(known):
        settled = (
            one.folder is not None and one.kind != RETURNED and one.state in ("good", UNPROVEN, "shrunken", "empty")
        )
        if not settled:
            continue
        if request and one.request == request:
            return "have", one.name
        if not request and kind == "nightly" and one.kind == "nightly" and now - one.elapsed < interval:
            return "have", one.name
    return ("go" if ready else "wait"), ""


def space_needed(known: list[Dump], min_free: int) -> int:
    """Pure: free bytes that a dump needs before it starts, its scratch server included.

    What the first dump will hold is not known: the proof looks for room for it.
    """
    last = next((one for one in reversed(known) if one.folder and one.manifest), None)
    size = int(last.manifest.get("size", 0)) + room.raw(last) if last else 0
    return min_free + room.JOURNAL + int(1.5 * size)


def receive(store: Store, host: str, order: dict[str, Any]) -> None:
    """Answer a sender's request to dump, and receive the dump if it is granted."""
    kind, request, ready = str(order["kind"]), str(order.get("request", "")), bool(order.get("ready"))
    if kind not in KINDS or not re.fullmatch(r"[A-Za-z0-9-]{0,64}", request):
        frames.say(answer="refused", reason="unknown kind or request")
        return
    held = store.claim()
    if held is None:
        holder = files.read_json(store.root / "holder.json") or {}
        who, since = holder.get("host", "another host"), holder.get("since", "just now")
        frames.say(answer="busy", reason=f"{who} dumps since {since}")
        return
    with held:
        with store.books() as elapsed:
            known = store.dumps()
        answer, name = admit(known, kind, request, ready, elapsed, store.config.interval)
        if answer != "go":
            frames.say(answer=answer, name=name, reason="" if ready else str(order.get("reason", "")))
            return
        name = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{host}"
        if (store.root / "dumps" / name).exists():
            frames.say(answer="busy", reason="a dump of this very second is there")
            return
        # Only the holder of the lock receives, so anything here was left by a broken session.
        files.clear(store.root / "incoming")
        needed = space_needed(known, store.config.min_free)
        if store.free() < needed:
            reason = f"the store is full: {store.free()} bytes are free, {needed} are needed"
            store.fail(name, kind, host, request, "full", reason)
            frames.say(answer="full", reason=reason)
            return
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        files.write(store.root / "holder.json", json.dumps({"host": host, "since": since}))
        frames.say(answer="go", name=name)
        partial = store.root / "incoming" / name
        try:
            _write(store, partial, name, {"kind": kind, "host": host, "request": request})
        except (frames.Broken, OSError, ValueError) as error:
            full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
            with contextlib.suppress(OSError):
                shutil.rmtree(partial)
            reason = f"the store is full: {error}" if full else str(error)
            store.fail(name, kind, host, request, "full" if full else "failed", reason)
            with contextlib.suppress(OSError):
                frames.say(answer="full" if full else "refused", reason=reason)
            return
        frames.say(answer="stored", name=name)


def _write(store: Store, partial: Path, name: str, note: dict[str, Any]) -> None:
    """Receive the dump. Raises frames.Broken, OSError, ValueError; then no dump is stored."""
    partial.mkdir(mode=0o750)
    checksum, size = hashlib.sha256(), 0
    with (partial / "dump.archive.gz").open("wb") as target:
        for kind, content in frames.receive(0, store.config.silence, store.config.longest):
            if kind == frames.DATA:
                store.keep_free()
                target.write(content)
                checksum.update(content)
                size += len(content)
            elif kind == frames.END:
                manifest = json.loads(content)
                break
            else:
                raise frames.Broken(str(json.loads(content or b"{}").get("reason", "the sender gave up")))
        target.flush()
        os.fsync(target.fileno())
    if manifest.get("sha256") != checksum.hexdigest() or manifest.get("size") != size:
        raise ValueError("what arrived is not what was sent: the checksums differ")
    understand(manifest)
    if manifest.get("fleet") != store.config.fleet or manifest.get("replica_set") != store.config.replica_set:
        raise ValueError(f"the dump is of another fleet: {manifest.get('fleet')}/{manifest.get('replica_set')}")
    files.write(partial / "manifest.json", json.dumps(manifest, indent=1))
    (partial / UNPROVEN).touch()
    with store.books() as elapsed:
        receipt = {"number": store.next_number(), "elapsed": elapsed, "received": time.time(), **note}
        files.write(store.receipt(name), json.dumps(receipt))
        files.sync(partial)
        partial.rename(store.root / "dumps" / name)
        files.sync(store.root / "dumps")


def understand(manifest: dict[str, Any]) -> None:
    """Validate the manifest: its sender may be anyone with a key. Raises ValueError."""
    try:
        fingerprint.totals(fingerprint.from_json(manifest["namespaces"]))
        float(manifest["dump_seconds"])
        int(manifest.get("moment", (0,))[0])
        texts = [manifest[name] for name in ("moment_utc", "member", "server_version")]
        texts += list(manifest.get("left_out", ()))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"invalid manifest: {error!r}") from error
    if not all(isinstance(value, str) and value.isprintable() for value in texts):
        raise ValueError("invalid manifest: a text field is not a printable string")


def await_proof(store: Store, name: str, seconds: float = 60.0) -> None:
    """Answer as soon as the dump is proven, or after a while with `unproven`."""
    deadline = time.monotonic() + seconds
    folder = store.root / "dumps" / name
    while (folder / UNPROVEN).exists() and time.monotonic() < deadline:
        time.sleep(0.3)
    if not folder.is_dir():
        frames.say(state="missing", reason="there is no such dump")
        return
    proof = None if (folder / UNPROVEN).exists() else files.read_json(folder / "proof.json")
    frames.say(state=(proof or {}).get("state", UNPROVEN), reason=(proof or {}).get("reason", ""))
