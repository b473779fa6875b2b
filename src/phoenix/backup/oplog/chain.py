"""The chain: the store's segments as ranges without a gap, and the moments that they and the dumps make restorable.

Layout below the store's root: oplog/HOUR/FIRST-LAST, where HOUR is that of the first entry. What belongs together
follows from the names alone, so there is nothing that a crash could leave behind the segments.
"""

from __future__ import annotations

import calendar
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from phoenix.backup import files
from phoenix.backup.archive import Moment
from phoenix.backup.oplog import segment
from phoenix.backup.store import UNPROVEN, Dump

# From how long before a dump's moment entries are read: a transaction that ends after it may begin before.
MARGIN = 60
DAY = 86400.0
# How old the newest entry may be of an oplog that is shipped; an idle set writes a note every 10 s.
FRESH = 30.0
# In place of a time: all that the oplog has after the dump, which is for when nothing follows any more.
LATEST = "latest"


class Unreachable(Exception):
    """No dump and range of the oplog lead to a moment. The message names what can be restored."""


@dataclass(frozen=True)
class Range:
    """Entries without a gap, both ends included."""

    first: Moment
    last: Moment

    def holds(self, moment: Moment) -> bool:
        return self.first <= moment <= self.last


@dataclass(frozen=True)
class Tail:
    """The end of the chain. sha256: of the newest segment; entry: of its last entry."""

    last: Moment
    sha256: str
    entry: str


def fold(ends: Iterable[tuple[Moment, Moment]]) -> list[Range]:
    """Pure: the ranges that segments make up, by their first and last moments, in order."""
    found: list[Range] = []
    for first, last in sorted(ends):
        if found and found[-1].last == first:
            found[-1] = Range(found[-1].first, last)
        else:
            found.append(Range(first, last))
    return found


def moment_of(dump: Dump) -> Moment:
    seconds, ordinal = dump.manifest["moment"]
    return int(seconds), int(ordinal)


def bases(dumps: Iterable[Dump]) -> list[Dump]:
    """Pure: the dumps from which the oplog can be replayed, in the order of their moments."""
    good = [dump for dump in dumps if dump.folder and dump.state == "good" and "moment" in dump.manifest]
    return sorted(good, key=moment_of)


def windows(ranges: Sequence[Range], dumps: Iterable[Dump]) -> list[tuple[int, int]]:
    """Pure: the seconds that can be restored, as pairs of the first and last one."""
    good = bases(dumps)
    found = []
    for one in ranges:
        within = [moment_of(dump) for dump in good if one.holds(moment_of(dump))]
        if within and within[0][0] + 1 <= one.last[0]:
            found.append((within[0][0] + 1, one.last[0]))
    return found


def covered(ranges: Sequence[Range], dumps: Iterable[Dump], now: float) -> bool:
    """Pure: whether every second since a good dump can be restored, until just now."""
    open_windows = windows(ranges, dumps)
    return bool(open_windows) and open_windows[-1][1] >= now - FRESH


def base(ranges: Sequence[Range], dumps: Iterable[Dump], limit: Moment) -> Dump | None:
    """Pure: the newest dump from which the oplog leads up to limit, which is not included; None if there is none."""
    within = next((one for one in ranges if one.holds(limit)), None)
    if within is None:
        return None
    return next((dump for dump in reversed(bases(dumps)) if within.first <= moment_of(dump) < limit), None)


def after_gap(ranges: Sequence[Range], dumps: Iterable[Dump], now: float) -> tuple[int, str]:
    """Pure: whether there is a gap, and the request of the dump that should follow it, or "".

    0: none; 1: one ended within a day, and what came since can be restored; 2: nothing since can be.
    """
    if len(ranges) < 2:
        return 0, ""
    newest = ranges[-1].first
    since = [dump for dump in dumps if dump.folder and "moment" in dump.manifest and moment_of(dump) >= newest]
    if any(dump.state == "good" for dump in since):
        return int(now - newest[0] < DAY), ""
    return 2, "" if any(dump.state == UNPROVEN for dump in since) else f"gap-{newest[0]}"


def choose(ranges: Sequence[Range], dumps: Sequence[Dump], wanted: str, now: float) -> tuple[Dump, Moment]:
    """Pure: the dump to begin with, and the moment before which to stop. wanted: as in 2026-11-25T10:00:00Z, or LATEST.

    Raises Unreachable.
    """
    if wanted == LATEST:
        return _latest(ranges, dumps)
    limit = parse(wanted)
    listed = " and ".join(f"{show(first)} to {show(last)}" for first, last in windows(ranges, dumps))
    can = f"what can be restored: {listed}" if listed else "no moment can be restored yet but those of the dumps"
    if limit[0] > now:
        raise Unreachable(f"{wanted} is in the future; {can}")
    found = base(ranges, dumps, limit)
    if found:
        return found, limit
    good = bases(dumps)
    if not good or limit <= moment_of(good[0]):
        raise Unreachable(f"{wanted} is before the first good dump; {can}")
    if not ranges or limit > ranges[-1].last:
        raise Unreachable(f"the oplog up to {wanted} is not in the store (yet); {can}")
    raise Unreachable(f"the oplog in the store has a gap between the last good dump and {wanted}; {can}")


def _latest(ranges: Sequence[Range], dumps: Sequence[Dump]) -> tuple[Dump, Moment]:
    """Pure: the newest dump, and the second after the last entry that continues it. Raises Unreachable."""
    good = bases(dumps)
    within = continued(ranges, good[-1]) if good else None
    if within is None:
        which = good[-1].name if good else "a good dump"
        raise Unreachable(f"no oplog follows {which}: leave the time out, for the dump's own moment")
    return good[-1], (within.last[0] + 1, 0)


def continued(ranges: Sequence[Range], dump: Dump) -> Range | None:
    """Pure: the range that goes on after a dump, if there is one."""
    moment = moment_of(dump)
    return next((one for one in ranges if one.holds(moment) and one.last > moment), None)


def parse(wanted: str) -> Moment:
    """Pure: the moment of a time in UTC. Raises Unreachable."""
    try:
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", wanted):
            return calendar.timegm(time.strptime(wanted, "%Y-%m-%dT%H:%M:%SZ")), 0
    except ValueError:
        pass
    raise Unreachable(f"{wanted!r} is not a time in UTC such as 2026-11-25T10:00:00Z")


def show(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


class Chain:
    """The segments on the disk."""

    def __init__(self, store_root: Path) -> None:
        self.root = store_root / "oplog"

    def names(self) -> list[tuple[Moment, Moment, Path]]:
        """Every segment by its first and last moment, in order."""
        return sorted((*ends, folder / title) for ends, folder, title in self._titles())

    def _titles(self) -> Iterator[tuple[tuple[Moment, Moment], Path, str]]:
        for folder in self.root.glob("[0-9]*"):
            for title in os.listdir(folder):  # noqa: PTH208 - a path for each of 200,000 would take a second
                if ends := segment.ends(title):
                    yield ends, folder, title

    def ranges(self) -> list[Range]:
        return fold(ends for ends, _, _ in self._titles())

    def tail(self) -> Tail | None:
        """The chain's end. A newest segment that is damaged is removed: its entries are sent again, or are a gap."""
        for _, _, path in reversed(self.names()):
            content = path.read_bytes()
            try:
                header, entries = segment.unpack(content)
            except segment.Damaged as error:
                print(f"{path} is removed: {error}", file=sys.stderr)
                path.unlink()
                continue
            return Tail(header.last, segment.digest(content), segment.digest(entries[-1]))
        return None

    def clean(self) -> None:
        """Remove what an interrupted session left; for the holder of the chain's lock."""
        for leftover in self.root.glob("*/.*"):
            leftover.unlink()

    def add(self, content: bytes, tail: Tail | None) -> tuple[segment.Header, Tail]:
        """Verify a segment and write it; returns its header and the new end. Raises segment.Damaged, OSError."""
        header, entries = segment.unpack(content)
        if header.previous:
            if tail is None or header.previous != tail.sha256 or header.first != tail.last:
                raise segment.Damaged(f"the segment {header.name} does not follow the chain's end, {tail}")
            if segment.digest(entries[0]) != tail.entry:
                raise segment.Damaged(f"the segment {header.name} begins with another entry than the chain ends with")
            if len(entries) < 2:
                raise segment.Damaged(f"the segment {header.name} adds nothing")
        elif tail is not None and header.first <= tail.last:
            raise segment.Damaged(f"the segment {header.name} begins a range before the chain's end, {tail.last}")
        folder = self.root / time.strftime("%Y%m%dT%H", time.gmtime(header.first[0]))
        if not folder.is_dir():
            folder.mkdir(mode=0o750)
            files.sync(self.root)
        files.write(folder / header.name, content)
        return header, Tail(header.last, segment.digest(content), segment.digest(entries[-1]))

    def entries(
        self, since: Moment, limit: Moment, listed: Sequence[tuple[Moment, Moment, Path]] = ()
    ) -> Iterator[tuple[Moment, bytes]]:
        """Entries before limit, from some before since on, so that nothing in between is missing.

        listed: the segments by `names`, for readings that have to give the same while others arrive. Each segment is
        verified as it is read. Raises segment.Damaged, and Unreachable when the range has no such end.
        """
        listed = listed or self.names()
        within = next((one for one in fold((first, last) for first, last, _ in listed) if one.holds(since)), None)
        # The second after the last entry, too: what else may come in that one is not known here.
        if within is None or not (within.holds(limit) or limit == (within.last[0] + 1, 0)):
            raise Unreachable(f"the oplog from {since} to {limit} is not in the store without a gap")
        early = (since[0] - MARGIN, 0)
        previous, overlap = "", b""
        for first, last, path in listed:
            if last < max(early, within.first) or first >= limit:
                continue
            content = path.read_bytes()
            header, found = segment.unpack(content)
            if previous and (header.previous, found[0]) != (previous, overlap):
                raise segment.Damaged(f"the segment {header.name} does not follow the one before")
            for entry in found[1:] if previous else found:
                moment = segment.moment(entry)
                if moment >= limit:
                    return
                yield moment, entry
            previous, overlap = segment.digest(content), found[-1]

    def prune(self, oldest: Moment) -> int:
        """Delete the segments that end too long before the oldest dump's moment to be of use; returns how many."""
        gone = [path for _, last, path in self.names() if last < (oldest[0] - 2 * MARGIN, 0)]
        for path in gone:
            path.unlink()
        for folder in {path.parent for path in gone}:
            if not any(folder.iterdir()):
                folder.rmdir()
        return len(gone)
