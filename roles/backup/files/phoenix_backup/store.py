"""The store's side: what a sender's key may do here. It adds, and neither overwrites, nor deletes, nor reads.

Layout below the store's root:
  dumps/NAME/      dump.archive.gz, manifest.json, receipt.json, `unproven` until proof.json is there
  incoming/        what is being received; emptied by the next session
  failures/        attempts that left no dump
  logs/HOST/       log files, and .received.json
  clock.json, lock (held during a dump), books (held while the books are changed), events (touched on every change)
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from phoenix_backup import clock, files, fingerprint, frames, retention

NAME = re.compile(r"[0-9]{8}T[0-9]{6}Z-[a-z0-9][a-z0-9.-]*")
LOG_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")
KINDS = ("nightly", "manual", "safety")
UNPROVEN = "unproven"


@dataclass(frozen=True)
class Config:
    """Of /etc/phoenix/backup/store.json. Times in seconds, sizes in bytes."""

    root: str
    fleet: str
    replica_set: str
    keep_days: float
    late: float
    min_free: int
    interval: float
    silence: float
    scratch_cache_gb: float
    metrics: str
    port: int
    offsite: str

    @staticmethod
    def read(path: Path) -> Config:
        """Raises OSError, ValueError or TypeError when the file is missing or wrong."""
        return Config(**json.loads(path.read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Dump:
    """A dump in the store, or an attempt that left none (state failed or full, no folder)."""

    name: str
    number: int
    elapsed: float
    received: float
    kind: str
    host: str
    request: str
    state: str
    reason: str
    folder: Path | None
    manifest: dict[str, Any]


class Store:
    def __init__(self, config: Config) -> None:
        self.config = config
        self.root = Path(config.root)

    def prepare(self) -> None:
        """Make what is missing of the layout."""
        for name in ("dumps", "incoming", "failures", "logs", "scratch"):
            (self.root / name).mkdir(mode=0o750, exist_ok=True)
        # Made by the store's own user, so that root, who restores, does not.
        for name in ("lock", "scratch.lock"):
            (self.root / name).touch(0o640)

    @contextlib.contextmanager
    def books(self, quiet: bool = False) -> Iterator[float]:
        """Alone with the store's books; gives the store's running time in seconds. quiet: the watch need not look."""
        with (self.root / "books").open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            floor = max((one.elapsed for one in self.dumps()), default=0.0)
            yield clock.read(self.root / "clock.json", floor)
        if not quiet:
            self.touch()

    def touch(self) -> None:
        """Have the watch look."""
        (self.root / "events").write_text(f"{time.time()}\n", encoding="ascii")

    def claim(self) -> IO[str] | None:
        """The lock of whoever dumps; it ends with this process, and so with the sender's connection. None: held."""
        handle = (self.root / "lock").open("a+")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.close()
            return None
        return handle

    def free(self) -> int:
        return shutil.disk_usage(self.root).free

    def dumps(self) -> list[Dump]:
        """Everything known, in the order of receipt."""
        found = []
        for folder in (self.root / "dumps").iterdir():
            receipt = files.read_json(folder / "receipt.json")
            manifest = files.read_json(folder / "manifest.json")
            if receipt is None or manifest is None:
                continue
            proof = files.read_json(folder / "proof.json") or {"state": UNPROVEN, "reason": ""}
            found.append(
                Dump(
                    folder.name, receipt["number"], receipt["elapsed"], receipt["received"], receipt["kind"],
                    receipt["host"], receipt["request"], proof["state"], proof.get("reason", ""), folder, manifest,
                )
            )  # fmt: skip
        for path in (self.root / "failures").glob("*.json"):
            if failure := files.read_json(path):
                found.append(Dump(**failure, folder=None, manifest={}))
        return sorted(found, key=lambda one: one.number)

    def next_number(self) -> int:
        return max((one.number for one in self.dumps()), default=0) + 1

    def fail(self, name: str, kind: str, host: str, request: str, state: str, reason: str) -> None:
        """Note an attempt that left no dump; the last 50 are kept."""
        with self.books() as elapsed:
            number = self.next_number()
            record = {"name": name, "number": number, "elapsed": elapsed, "received": time.time(), "kind": kind,
                      "host": host, "request": request, "state": state, "reason": reason[:2000]}  # fmt: skip
            files.write(self.root / "failures" / f"{number:08d}.json", json.dumps(record))
            for path in sorted((self.root / "failures").glob("*.json"))[:-50]:
                path.unlink()

    def prune(self) -> list[retention.Verdict]:
        """Delete the dumps that retention lets go. To be called after a dump was proven good."""
        with self.books() as elapsed:
            known = self.dumps()
            kept = [retention.Kept(one.name, one.number, one.elapsed, one.state, one.kind == "safety") for one in known]
            verdicts = retention.decide(kept, elapsed, self.config.keep_days)
            gone = {one.name for one in verdicts if not one.keep}
            for one in known:
                if one.folder and one.name in gone:
                    # Out of sight in one step: what remains of a broken deletion is never taken for a dump.
                    away = self.root / "incoming" / f"{one.name}.deleted"
                    one.folder.rename(away)
                    shutil.rmtree(away)
        return [one for one in verdicts if not one.keep]


def admit(known: list[Dump], kind: str, request: str, ready: bool, now: float, interval: float) -> tuple[str, str]:
    """Pure: the answer to whoever asks to dump while nobody does: have (and which), wait, or go.

    now: running time of the store; interval: seconds within which a second nightly dump is not wanted.
    """
    for one in reversed(known):
        settled = one.folder is not None and one.state in ("good", UNPROVEN, "shrunken", "empty")
        if not settled:
            continue
        if request and one.request == request:
            return "have", one.name
        if not request and kind == "nightly" and one.kind == "nightly" and now - one.elapsed < interval:
            return "have", one.name
    return ("go" if ready else "wait"), ""


def space_needed(known: list[Dump], min_free: int) -> int:
    """Pure: bytes that have to be free before a dump, its scratch restore among them, is begun."""
    last = next((one.manifest for one in reversed(known) if one.folder and one.manifest), {})
    raw = sum(int(entry.get("bytes") or 0) for entry in last.get("namespaces", {}).values())
    return min_free + int(1.5 * (int(last.get("size", 0)) + raw))


def say(**answer: Any) -> None:
    print(json.dumps(answer), flush=True)


def receive_dump(store: Store, host: str, order: dict[str, Any]) -> None:
    """A sender asks for the task, and if it gets it, streams the dump."""
    kind, request, ready = str(order["kind"]), str(order.get("request", "")), bool(order.get("ready"))
    if kind not in KINDS or not re.fullmatch(r"[A-Za-z0-9-]{0,64}", request):
        say(answer="refused", reason="unknown kind or request")
        return
    held = store.claim()
    if held is None:
        holder = files.read_json(store.root / "holder.json") or {}
        say(answer="busy", reason=f"{holder.get('host', 'another host')} dumps since {holder.get('since', 'just now')}")
        return
    with held:
        with store.books() as elapsed:
            known = store.dumps()
        answer, name = admit(known, kind, request, ready, elapsed, store.config.interval)
        if answer != "go":
            say(answer=answer, name=name, reason="" if ready else str(order.get("reason", "")))
            return
        name = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{host}"
        if (store.root / "dumps" / name).exists():
            say(answer="busy", reason="a dump of this very second is there")
            return
        _empty(store.root / "incoming")
        needed = space_needed(known, store.config.min_free)
        if store.free() < needed:
            reason = f"the store is full: {store.free()} bytes are free, {needed} are needed"
            store.fail(name, kind, host, request, "full", reason)
            say(answer="full", reason=reason)
            return
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        files.write(store.root / "holder.json", json.dumps({"host": host, "since": since}))
        say(answer="go", name=name)
        partial = store.root / "incoming" / name
        try:
            _receive(store, partial, name, {"kind": kind, "host": host, "request": request})
        except (frames.Broken, OSError, ValueError) as error:
            full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
            with contextlib.suppress(OSError):
                shutil.rmtree(partial)
            reason = f"the store is full: {error}" if full else str(error)
            store.fail(name, kind, host, request, "full" if full else "failed", reason)
            with contextlib.suppress(OSError):
                say(answer="full" if full else "refused", reason=reason)
            return
        say(answer="stored", name=name)


def _empty(folder: Path) -> None:
    """Only the holder of the lock receives, so whatever lies here is of a broken session."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _receive(store: Store, partial: Path, name: str, note: dict[str, Any]) -> None:
    """Raises frames.Broken, OSError, ValueError; then nothing of it is a dump."""
    partial.mkdir(mode=0o750)
    checksum, size = hashlib.sha256(), 0
    with (partial / "dump.archive.gz").open("wb") as target:
        for kind, content in frames.receive(0, store.config.silence):
            if kind == frames.DATA:
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
        files.write(partial / "receipt.json", json.dumps(receipt))
        files.sync(partial)
        partial.rename(store.root / "dumps" / name)
        files.sync(store.root / "dumps")


def understand(manifest: dict[str, Any]) -> None:
    """Raises ValueError when the manifest lacks what is read of it later: its sender may be anybody with a key."""
    try:
        fingerprint.totals(fingerprint.from_json(manifest["namespaces"]))
        float(manifest["dump_seconds"])
        said = [manifest[name] for name in ("moment_utc", "member", "server_version")]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"the manifest is none: {error!r}") from error
    if not all(isinstance(value, str) and value.isprintable() for value in said):
        raise ValueError("the manifest is none: a text is no text")


def await_proof(store: Store, name: str, seconds: float = 60.0) -> None:
    """Answer as soon as the dump is proven, or after a while with `unproven`."""
    deadline = time.monotonic() + seconds
    folder = store.root / "dumps" / name
    while (folder / UNPROVEN).exists() and time.monotonic() < deadline:
        time.sleep(0.3)
    if not folder.is_dir():
        say(state="missing", reason="there is no such dump")
        return
    proof = None if (folder / UNPROVEN).exists() else files.read_json(folder / "proof.json")
    say(state=(proof or {}).get("state", UNPROVEN), reason=(proof or {}).get("reason", ""))


def receive_logs(store: Store, host: str) -> None:
    """A host adds log files; then those of it that are old enough go."""
    folder = store.root / "logs" / host
    folder.mkdir(mode=0o750, exist_ok=True)
    with (store.root / "logs" / f".{host}.lock").open("a") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say(answer="busy", reason="this host is sending logs already")
            return
        for leftover in folder.glob(".*.part"):
            leftover.unlink()
        stream = frames.receive(0, store.config.silence)
        try:
            for kind, content in stream:
                if kind == frames.END:
                    prune_logs(store, folder)
                    say(answer="done")
                    return
                if kind != frames.FILE:
                    raise frames.Broken("a file's name was expected")
                _receive_log(store, folder, str(json.loads(content)["name"]), stream)
        except (frames.Broken, OSError, ValueError, KeyError) as error:
            with contextlib.suppress(OSError):
                say(answer="refused", reason=str(error))


def _receive_log(store: Store, folder: Path, name: str, stream: Iterator[tuple[bytes, bytes]]) -> None:
    if not LOG_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a log file")
    if (folder / name).exists():
        say(answer="have")
        return
    if store.free() < store.config.min_free:
        raise OSError(errno.ENOSPC, f"the store is full: {store.free()} bytes are free")
    say(answer="send")
    partial, checksum = folder / f".{name}.part", hashlib.sha256()
    with partial.open("wb") as target:
        for kind, content in stream:
            if kind == frames.END:
                if json.loads(content).get("sha256") != checksum.hexdigest():
                    raise ValueError("what arrived is not what was sent: the checksums differ")
                break
            if kind != frames.DATA:
                raise frames.Broken("the file's content was expected")
            target.write(content)
            checksum.update(content)
        target.flush()
        os.fsync(target.fileno())
    with store.books() as elapsed:
        notes = files.read_json(folder / ".received.json") or {}
        number = max((int(note["number"]) for note in notes.values()), default=0) + 1
        notes[name] = {"number": number, "elapsed": elapsed, "received": time.time()}
        files.write(folder / ".received.json", json.dumps(notes))
        partial.rename(folder / name)
        files.sync(folder)
    say(answer="stored")


def stream_of(name: str) -> str:
    """The log that a rotated file is a piece of: access.log-20261124-1795521600.gz is of access.log."""
    return re.sub(r"(\.log)?[-.][0-9].*$", r"\1", name)


def prune_logs(store: Store, folder: Path) -> list[retention.Verdict]:
    """Delete a host's log files that retention lets go; each log for itself, so its last file stays."""
    with store.books() as elapsed:
        notes = files.read_json(folder / ".received.json") or {}
        streams: dict[str, list[retention.Kept]] = {}
        for name, note in notes.items():
            kept = retention.Kept(name, note["number"], note["elapsed"], retention.GOOD)
            streams.setdefault(stream_of(name), []).append(kept)
        gone = [
            verdict
            for kept_of_stream in streams.values()
            for verdict in retention.decide(kept_of_stream, elapsed, store.config.keep_days)
            if not verdict.keep
        ]
        for verdict in gone:
            (folder / verdict.name).unlink(missing_ok=True)
            notes.pop(verdict.name)
        files.write(folder / ".received.json", json.dumps(notes))
    return gone


def serve(store: Store, host: str, command: str) -> int:
    """What sshd runs for a sender's key. host: whose key it is; command: what the sender asked for."""
    os.umask(0o027)
    store.prepare()
    words = shlex.split(command)
    if words[:1] == ["dump"] and len(words) == 2:
        receive_dump(store, host, json.loads(words[1]))
    elif words == ["logs"]:
        receive_logs(store, host)
    elif words[:1] == ["await"] and len(words) == 2 and NAME.fullmatch(words[1]):
        await_proof(store, words[1])
    else:
        say(answer="refused", reason="this key may only add dumps and logs")
        return 1
    return 0
