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

from phoenix.backup import files, frames, retention, uploads
from phoenix.backup.store import Store

LOG_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")


def receive(store: Store, host: str) -> None:
    """Receive a host's log files, then delete those of its files that are past their retention."""
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
            for kind, content in stream:
                if kind == frames.END:
                    prune(store, folder)
                    frames.say(answer="done")
                    return
                if kind != frames.FILE:
                    raise frames.Broken("a file's name was expected")
                _write(store, folder, str(json.loads(content)["name"]), stream)
        except (frames.Broken, OSError, ValueError, KeyError) as error:
            with contextlib.suppress(OSError):
                frames.say(answer="refused", reason=str(error))


def _write(store: Store, folder: Path, name: str, stream: Iterator[tuple[bytes, bytes]]) -> None:
    if not LOG_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a log file")
    if (folder / name).exists():
        frames.say(answer="have")
        return
    store.keep_free()
    frames.say(answer="send")
    partial = folder / f".{name}.part"
    try:
        _content(store, partial, stream)
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


def _content(store: Store, partial: Path, stream: Iterator[tuple[bytes, bytes]]) -> None:
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
            store.keep_free()
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
