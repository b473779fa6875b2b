"""Receive log files, each once, and delete those past their retention."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from phoenix.backup import files, frames, intake_dumps, retention, room, uploads
from phoenix.backup.store import Store

LOG_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")


def receive(store: Store, host: str) -> None:
    """Receive a host's log files, and delete those of its files that are past their retention: a full store as well.

    A file that can't be taken, by its name or for want of space, is refused by itself and holds back none behind it.
    What the next dump needs is left: a host that sends without end must not stop the others' backups.
    """
    folder = store.root / "logs" / host
    folder.mkdir(mode=0o750, exist_ok=True)
    with (store.root / "logs" / f".{host}.lock").open("a") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            frames.say(answer="busy", reason="this host is sending logs already")
            return
        for leftover in folder.glob(".*.part"):
            leftover.unlink()
        stream = frames.receive(0, store.config.silence, store.config.longest)
        try:
            # Before anything arrives: it may be what makes room.
            prune(store, folder)
            floor = _floor(store)
            for kind, content in stream:
                if kind == frames.END:
                    prune(store, folder)
                    frames.say(answer="done")
                    return
                if kind != frames.FILE:
                    raise frames.Broken("a file's name was expected")
                offered = json.loads(content)
                _write(store, folder, str(offered["name"]), int(offered.get("size", 0)), floor, stream)
        except (frames.Broken, OSError, ValueError, KeyError) as error:
            with contextlib.suppress(OSError):
                frames.say(answer="refused", reason=str(error))


def _floor(store: Store) -> int:
    """Bytes to be left free for the next dump and its scratch server; 0 while one is received, which has its room."""
    if any((store.root / "incoming").iterdir()):
        return 0
    # What a scratch server takes now, it gives back before the next one starts.
    taken = room.available(store) - store.free()
    return intake_dumps.space_needed(store.dumps(), store.config.min_free) - taken


def _write(store: Store, folder: Path, name: str, size: int, floor: int, stream: Iterator[tuple[bytes, bytes]]) -> None:
    """size: in bytes, as far as the sender knows it, or 0; floor: bytes to be left free."""
    if not LOG_NAME.fullmatch(name):
        frames.say(answer="refused", reason=f"{name!r} is not the name of a log file")
        return
    if (folder / name).exists():
        frames.say(answer="have")
        return
    try:
        store.keep_free(size, floor)
    except OSError as error:
        frames.say(answer="refused", reason=str(error))
        return
    frames.say(answer="send")
    partial = folder / f".{name}.part"
    try:
        _content(store, partial, floor, stream)
    except BaseException:
        partial.unlink()
        raise
    book(store, folder, partial, name)
    frames.say(answer="stored")


def book(store: Store, folder: Path, partial: Path, name: str) -> None:
    """Enter a complete file in the folder's books, under its name."""
    with store.books() as elapsed:
        notes = files.read_json(folder / ".received.json") or {}
        number = max((int(note["number"]) for note in notes.values()), default=0) + 1
        judged = uploads.judged(folder, notes, name, partial.stat().st_size)
        notes[name] = {"number": number, "elapsed": elapsed, "received": time.time(), **judged}
        files.write(folder / ".received.json", json.dumps(notes))
        partial.rename(folder / name)
        files.sync(folder)


def _content(store: Store, partial: Path, floor: int, stream: Iterator[tuple[bytes, bytes]]) -> None:
    """Write a file as it arrives. Raises frames.Broken, OSError, ValueError."""
    checksum = hashlib.sha256()
    with partial.open("wb") as target:
        for kind, content in stream:
            if kind == frames.END:
                if json.loads(content).get("sha256") != checksum.hexdigest():
                    raise ValueError("what arrived is not what was sent: the checksums differ")
                break
            if kind != frames.DATA:
                raise frames.Broken("the file's content was expected")
            store.keep_free(floor=floor)
            target.write(content)
            checksum.update(content)
        target.flush()
        os.fsync(target.fileno())


def stream_of(name: str) -> str:
    """The log that a rotated file belongs to: access.log-20261124-1795521600.gz belongs to access.log."""
    return re.sub(r"(\.log)?[-.][0-9].*$", r"\1", name)


def prune(store: Store, folder: Path) -> list[retention.Verdict]:
    """Delete a host's log files past their retention, each log by itself, so that its last file stays."""
    with store.books() as elapsed:
        notes = files.read_json(folder / ".received.json") or {}
        streams: dict[str, list[retention.Kept]] = {}
        for name, note in notes.items():
            kept = retention.Kept(name, note["number"], note["elapsed"], uploads.state_of(note))
            streams.setdefault(stream_of(name), []).append(kept)
        gone: dict[str, retention.Verdict] = {}
        for stream, kept_of_stream in streams.items():
            verdicts = retention.decide(kept_of_stream, elapsed, store.config.keep_days)
            # Sent whole at each change: all releases that are kept after each build.
            verdicts += retention.thin(kept_of_stream, elapsed) if stream.startswith("state.") else []
            gone |= {verdict.name: verdict for verdict in verdicts if not verdict.keep}
        for name in gone:
            (folder / name).unlink(missing_ok=True)
            notes.pop(name)
        if gone:
            files.write(folder / ".received.json", json.dumps(notes))
    return list(gone.values())


def forget(store: Store) -> list[str]:
    """Delete what hosts sent that are in the inventory no longer, their last files too, once it is past its retention.

    Returns what was deleted. A store that was not given the hosts keeps everything, as does the folder of no host.
    """
    gone = []
    for folder in sorted((store.root / "logs").iterdir()):
        known = not store.config.hosts or folder.name in store.config.hosts
        # The inventory's own folder is in capitals.
        if known or folder.name.isupper() or folder.name.startswith(".") or not folder.is_dir():
            continue
        with store.books(quiet=True) as elapsed:
            notes = files.read_json(folder / ".received.json") or {}
            if any(elapsed - note["elapsed"] <= store.config.keep_days * retention.DAY for note in notes.values()):
                continue
            for name in [*notes, ".received.json"]:
                (folder / name).unlink(missing_ok=True)
            # What nobody has entered in the books is not deleted by them.
            with contextlib.suppress(OSError):
                folder.rmdir()
            gone += [f"{folder.name}/{name}" for name in notes]
    return gone
