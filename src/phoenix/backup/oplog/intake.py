"""Receive the oplog: one sender at a time, each segment verified and on the disk before it is acknowledged."""

from __future__ import annotations

import contextlib
import fcntl
import select
import time
from pathlib import Path
from typing import IO

from phoenix.backup import frames
from phoenix.backup.oplog.chain import Chain, Range, after_gap, moment_of
from phoenix.backup.store import Store
from phoenix.common import prometheus
from phoenix.common.files import replace

# How often the dumps are read again, for whether one has followed a gap.
REVIEW = 60.0
METRIC = "phoenix_backup_oplog_timestamp_seconds"
GAP_METRIC = "phoenix_backup_oplog_gap_result"
GAUGES = {
    METRIC: "The moment up to which the oplog is in the store.",
    GAP_METRIC: "0; 1: a good dump has followed the last gap; 2: none has.",
}


def receive(store: Store) -> None:
    """Wait for this sender's turn, and receive segments until it ends."""
    try:
        held = _turn(store)
        if held is not None:
            with held:
                _segments(store, Chain(store.root))
    except (frames.Broken, OSError, ValueError) as error:
        with contextlib.suppress(OSError):
            frames.say(answer="refused", reason=str(error))


def _turn(store: Store) -> IO[str] | None:
    """The chain's lock, which ends with this process; None when the sender has ended meanwhile."""
    handle = (store.root / "oplog.lock").open("a")
    heard = time.monotonic()
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except BlockingIOError:
            pass
        if select.select([0], [], [], 1.0)[0]:
            if not frames.alive(0):
                return None
            heard = time.monotonic()
        elif time.monotonic() - heard > store.config.silence:
            return None


def _segments(store: Store, chain: Chain) -> None:
    chain.clean()
    tail, ranges = chain.tail(), chain.ranges()
    newest = max((moment_of(dump) for dump in store.dumps() if dump.folder and "moment" in dump.manifest), default=None)
    frames.say(
        answer="go",
        last=tail and list(tail.last),
        sha256=tail.sha256 if tail else "",
        entry=tail.entry if tail else "",
        start=newest and list(newest),
    )
    reviewed, gap, request = float("-inf"), 0, ""
    for kind, content in frames.receive(0, store.config.silence):
        if kind == frames.END:
            return
        if kind != frames.DATA:
            raise frames.Broken("a segment was expected")
        store.keep_free()
        header, tail = chain.add(content, tail)
        begun = ranges.pop().first if header.previous else header.first
        ranges.append(Range(begun, header.last))
        if time.monotonic() - reviewed > REVIEW or not header.previous:
            reviewed = time.monotonic()
            gap, request = after_gap(ranges, store.dumps(), time.time())
        write_metrics(store, tail.last[0], gap)
        frames.say(answer="stored", sha256=tail.sha256, dump=request)


def write_metrics(store: Store, shipped: float, gap: int) -> None:
    """Write the time up to which the oplog is here: as nobody renews it, its age grows by itself."""
    path = Path(store.config.oplog_metrics)
    if store.config.oplog_metrics and path.parent.is_dir():
        replace(path, prometheus.exposition({METRIC: shipped, GAP_METRIC: float(gap)}, GAUGES))
