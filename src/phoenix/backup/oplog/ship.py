"""Ship this member's oplog to the store, up to the majority commit point: what is there is never rolled back.

One member ships at a time. The store gives the task to the first healthy secondary that asks and, when its session
ends, to the next, which goes on where the store's chain ends.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from phoenix.backup import frames, member, sender
from phoenix.backup.archive import Moment
from phoenix.backup.oplog import segment
from phoenix.common import systemd

# Seconds: between two decisions whether this member is the one; before another try; of patience with the store and the
# member; between two attempts at the dump that follows a gap.
DECIDE, AGAIN, PATIENCE, DUMP_AGAIN = 10.0, 5.0, 60.0, 600.0
COMMAND = "/usr/local/bin/phoenixctl"


class Lost(Exception):
    """The entry with which the chain ends is not in this member's oplog (any more)."""


@dataclass(frozen=True)
class End:
    """The end of the chain. sha256: of the newest segment, empty for a new range; entry: of the last entry."""

    last: Moment
    sha256: str
    entry: str


def segments(entries: Iterable[bytes], end: End, limit: int) -> Iterator[tuple[bytes, End]]:
    """Pure: entries, beginning with the chain's last one, as segments that continue it; each with the new end.

    limit: bytes of entries from which on a segment is closed. Raises Lost when the chain's last entry is not the first.
    """
    held: list[bytes] = []
    size = 0
    for entry in entries:
        if not held and (segment.moment(entry), segment.digest(entry)) != (end.last, end.entry):
            raise Lost(f"the entry {end.last} is not in this member's oplog")
        held.append(entry)
        size += len(entry)
        if size >= limit and len(held) > 1:
            content, end = _closed(held, end)
            yield content, end
            held, size = [entry], 0
    if len(held) > 1 or (held and not end.sha256):
        yield _closed(held, end)
    if not held:
        raise Lost(f"the entry {end.last} is not in this member's oplog")


def _closed(held: list[bytes], end: End) -> tuple[bytes, End]:
    header, content = segment.pack(held, end.sha256)
    return content, End(header.last, segment.digest(content), segment.digest(held[-1]))


class Oplog:
    """A member's oplog."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def committed(self) -> Moment:
        """Up to where a majority of the members has the oplog."""
        stamp = self.client.admin.command("hello")["lastWrite"]["majorityOpTime"]["ts"]
        return stamp.time, stamp.inc

    def read(self, since: Moment, until: Moment) -> Iterator[bytes]:
        """Entries from since to until, both included. The server finds the first by its time-stamp at once."""
        from bson import Timestamp  # noqa: PLC0415 - only database hosts have it

        query = {"ts": {"$gte": Timestamp(*since), "$lte": Timestamp(*until)}}
        for batch in self.client.local["oplog.rs"].find_raw_batches(query):
            yield from segment.split(batch)

    def start(self, wanted: list[Moment], after: Moment | None) -> End | None:
        """Where a new range begins: at the first of the wanted moments that is here; None: at none."""
        for moment in wanted:
            if after is None or moment > after:
                for entry in self.read(moment, moment):
                    return End(moment, "", segment.digest(entry))
        return None


class Shipment:
    """One session with the store in which this member has the task."""

    def __init__(self, config: sender.Config, session: Any, oplog: Oplog, go: dict[str, Any]) -> None:
        self.config, self.session, self.oplog = config, session, oplog
        self.newest: Moment | None = go["start"] and tuple(go["start"])
        self.end = End(tuple(go["last"]), go["sha256"], go["entry"]) if go["last"] else None
        self.request = ""

    def ship(self) -> int:
        """Send what is new; returns the number of segments. Raises Failed, frames.Broken, pymongo's errors."""
        committed = self.oplog.committed()
        if self.end is not None and committed <= self.end.last:
            return 0  # nothing new, or this member is behind the one that shipped before
        if self.end is None:
            return self._begin(committed, None)
        try:
            return self._send(self.end, committed)
        except Lost as error:
            print(f"there is a gap in the store's oplog: {error}", flush=True)
            return self._begin(committed, self.end.last)

    def _begin(self, committed: Moment, after: Moment | None) -> int:
        """Begin a new range: where the newest dump can be continued, or else now."""
        start = self.oplog.start([*([self.newest] if self.newest else []), committed], after)
        return self._send(start, committed) if start else 0

    def _send(self, end: End, committed: Moment) -> int:
        count = 0
        for content, reached in segments(self.oplog.read(end.last, committed), end, self.config.oplog_bytes):
            self.session.frames.send(frames.DATA, content)
            systemd.notify("WATCHDOG=1")
            if not self.session.answers(PATIENCE):
                raise sender.Failed(f"the store did not acknowledge a segment within {PATIENCE:g} s")
            answer = self.session.answer()
            if answer.get("answer") != "stored" or answer.get("sha256") != reached.sha256:
                raise sender.Failed(f"the store refuses a segment: {answer.get('reason', answer)}")
            self.end, self.request = reached, str(answer.get("dump", ""))
            count += 1
        return count


class DumpAfterGap:
    """The dump with which a range begins that nothing precedes; made by the same program as the nightly one."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._begun = float("-inf")

    def see_to(self, request: str) -> None:
        """Start the dump if it is wanted and none is being made."""
        running = self._process is not None and self._process.poll() is None
        if not request or running or time.monotonic() - self._begun < DUMP_AGAIN:
            return
        print(f"starting a dump, as nothing since the gap can be restored without: manual-{request}", flush=True)
        self._begun = time.monotonic()
        self._process = subprocess.Popen([COMMAND, "backup", "dump", "--unit", f"manual-{request}"])


def decide(config: sender.Config) -> member.Decision:
    return member.decide(config.own, member.look(config.members, config.port, config.ca), config.max_lag)


def turn(config: sender.Config, dumps: DumpAfterGap) -> None:
    """Wait for the task as long as this member is fit for it, and ship as long as it remains so."""
    decision = decide(config)
    if not decision.dump:
        systemd.notify(f"WATCHDOG=1\nSTATUS=not shipping: {decision.reason}")
        return
    with sender.Session(config, "oplog") as session:
        while not session.answers(DECIDE):
            systemd.notify("WATCHDOG=1\nSTATUS=another member ships")
            if not decide(config).dump:
                return
        go = session.answer()
        if go.get("answer") != "go":
            raise sender.Failed(f"the store refuses: {go.get('reason', go)}")
        print(f"shipping: {decision.reason}", flush=True)
        with contextlib.closing(sender.connect(config, PATIENCE)) as client:
            shipment, decided = Shipment(config, session, Oplog(client), go), time.monotonic()
            while True:
                begun = time.monotonic()
                if begun - decided > DECIDE:
                    decision, decided = decide(config), begun
                    if not decision.dump:
                        print(f"no longer shipping: {decision.reason}", flush=True)
                        session.frames.send(frames.END, b"")
                        return
                shipment.ship()
                dumps.see_to(shipment.request)
                systemd.notify(f"WATCHDOG=1\nSTATUS=shipped up to {json.dumps(shipment.end and shipment.end.last)}")
                time.sleep(max(config.oplog_seconds - (time.monotonic() - begun), 0.1))


def run(config: sender.Config) -> int:
    """Ship for ever; errors are logged, once for as long as they stay the same."""
    from pymongo.errors import PyMongoError  # noqa: PLC0415 - only database hosts have it

    dumps, reported = DumpAfterGap(), ""
    systemd.notify("READY=1")
    while True:
        try:
            turn(config, dumps)
            reported = ""
        except (sender.Failed, frames.Broken, segment.Damaged, PyMongoError, OSError) as error:
            if str(error) != reported:
                reported = str(error)
                print(f"not shipping: {reported[:500]}", flush=True)
        systemd.notify("WATCHDOG=1")
        time.sleep(AGAIN)
