"""Clients' requests and each instance's answers, from nginx's access log (JSON lines).

phoenixctl requests sample   prints the paths that clients recently requested most, with success, as JSON, and of slow
                             ones how long they take
phoenixctl requests watch    puts all instances into rotation and counts the results of requests at each from then on,
                             as JSON: {"servers": {"address:port": {"requests", "asked", "errors", "earlier",
                             "earlier_errors", "kinds"}}, "ended": before its time}, the earlier ones from
                             shortly before;
                             servers that fail more often than the others (--canary, --errors) are taken out of
                             rotation at once

The canaries are asked from here, as nginx asks them (--ask), before they get clients' requests and all the time that
they are watched. So there are answers to judge where no client comes.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import datetime
import json
import math
import re
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from phoenix.balancer import questions, upstreams
from phoenix.rollout import evidence, latencies, plan
from phoenix.state import turn

LOG = Path("/var/log/nginx/access.log")
SEPARATOR = re.compile(r", | : ")
# At the end of a field that nginx cut; no request target has it.
CUT = "…"
# The status of an answer after which the connection speaks another protocol.
SWITCHED = 101
POLL_SECONDS = 0.1
# Half of what a rehearsal allows an answer by default. A path is slow when one in ten of its answers takes as long.
SLOW_S = 1.0
USUAL = 0.9
# Slow paths may be costly, and the canary is asked for them while it serves clients.
SLOW_PATHS = 2
# So many times as long at most, where too few requests reached a canary to judge it.
PROLONGED = 3
# How often the others usually fail is also read from before the watch, over so many times its length: beside a single
# instance as many answers again would not show it well enough.
EARLIER = 3
TAIL_BYTES = 4 << 20


def parse(line: bytes) -> dict[str, Any]:
    """One line of the log; {} if the line is not valid JSON (the file was cut in the middle).

    nginx writes a client's bytes as they came, so they need not be UTF-8.
    """
    try:
        entry = json.loads(line.decode(errors="replace"))
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


def attempts(entry: dict[str, Any]) -> list[tuple[str, int, float]]:
    """(server, status, seconds) for each instance that a request was sent to; status 0: the client went away.

    nginx lists them with commas, and with colons where another location took over.
    """
    columns = [
        SEPARATOR.split(str(entry.get(name, ""))) for name in ("upstream", "upstream_status", "upstream_seconds")
    ]
    found = []
    for server, status, seconds in zip(*columns):
        # Not an address: the upstream had no server left, and nginx logs its name instead.
        if ":" in server:
            took = float(seconds) if re.fullmatch(r"[0-9.]+", seconds) else 0.0
            found.append((server, int(status) if status.isdigit() else 0, took))
    return found


def logged(entry: dict[str, Any]) -> float:
    """When nginx wrote the entry, in s since the epoch; 0 without a time."""
    try:
        return datetime.datetime.fromisoformat(str(entry.get("time", ""))).timestamp()
    except ValueError:
        return 0.0


@dataclass
class Server:
    """What one instance answered; `asked` of the requests came from here, the `earlier` ones before it was watched."""

    requests: int = 0
    asked: int = 0
    errors: int = 0
    earlier: int = 0
    earlier_errors: int = 0
    # Latencies, by the kind of request.
    kinds: dict[str, collections.Counter[int]] = field(default_factory=dict)


@dataclass
class Watch:
    """Counts for each instance. Latencies count from `warm` (s on the monotonic clock) on. ended: before its time."""

    warm: float = 0.0
    ended: bool = False
    servers: dict[str, Server] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)

    def add(self, line: bytes, now: float) -> None:
        entry = parse(line)
        for name, status, seconds in attempts(entry):
            server = self.servers.setdefault(name, Server())
            server.requests += 1
            if status >= 500:
                server.errors += 1
            # What switched protocols took as long as the client stayed.
            elif status and status != SWITCHED and now >= self.warm:
                server.kinds.setdefault(self.kind(entry, status), collections.Counter())[latencies.bucket(seconds)] += 1

    def kind(self, entry: Mapping[str, Any], status: int) -> str:
        """The kind of a request, or REST once there are many: clients choose the paths.

        What was requested with success before, most often, has its place; of the rest, what is so first.
        """
        found = latencies.kind(str(entry.get("method", "")), str(entry.get("uri", "")), status)
        if status < 400 and len(self.known) < latencies.KINDS:
            self.known.add(found)
        return found if found in self.known else latencies.REST

    def recall(self, lines: Iterable[bytes], since: float, without: Collection[str]) -> None:
        """Count the answers since then (s since the epoch) of all but these servers, which may have run anything."""
        usual: collections.Counter[str] = collections.Counter()
        for line in lines:
            entry = parse(line)
            if logged(entry) >= since:
                for name, status, _ in attempts(entry):
                    if 0 < status < 400:
                        usual[latencies.kind(str(entry.get("method", "")), str(entry.get("uri", "")), status)] += 1
                    if name not in without:
                        server = self.servers.setdefault(name, Server())
                        server.earlier += 1
                        server.earlier_errors += status >= 500
        self.known |= {kind for kind, _ in usual.most_common(latencies.KINDS // 2)}

    def add_asked(self, name: str, wrong: str) -> None:
        server = self.servers.setdefault(name, Server())
        server.requests += 1
        server.asked += 1
        server.errors += bool(wrong)

    def fail(self, names: Collection[str], glances: evidence.Glances) -> bool:
        """Whether these servers fail, beside the others."""
        own = [one for name, one in self.servers.items() if name in names]
        others = [one for name, one in self.servers.items() if name not in names]
        return glances.fail(
            sum(one.errors for one in own),
            sum(one.requests for one in own),
            sum(one.errors + one.earlier_errors for one in others),
            sum(one.requests + one.earlier for one in others),
        )

    def too_few(self, names: Collection[str], enough: float) -> bool:
        """Whether too few requests reached one of these servers to judge it, all of them good.

        Nor did the others get many: where they did, or where one failed, it may hang, and clients wait for it.
        """
        own = [self.servers.get(name, Server()) for name in names]
        others = [one.requests for name, one in self.servers.items() if name not in names]
        if max(others, default=0) >= plan.BUSY or any(one.errors for one in own):
            return False
        return any(one.requests < enough for one in own)

    def result(self) -> dict[str, Any]:
        return {
            "ended": self.ended,
            "servers": {
                name: {
                    "requests": one.requests,
                    "asked": one.asked,
                    "errors": one.errors,
                    "earlier": one.earlier,
                    "earlier_errors": one.earlier_errors,
                    "kinds": {kind: dict(sorted(buckets.items())) for kind, buckets in sorted(one.kinds.items())},
                }
                for name, one in sorted(self.servers.items())
            },
        }


def open_at(mark: str, log: Path) -> BinaryIO:
    """The log from a place (inode:offset) on, also when it was rotated since, to a name with the time."""
    inode, _, offset = mark.partition(":")
    for path in (log, *log.parent.glob(log.name + "-*")):
        if path.exists() and path.stat().st_ino == int(inode):
            handle = path.open("rb")
            handle.seek(int(offset))
            return handle
    return log.open("rb")


def follow(mark: str, log: Path, seconds: float, too_few: Callable[[], bool]) -> Iterator[bytes]:
    """Complete lines from the mark on; b"" while there is no new one, and now and then between them.

    Ends after `seconds`, at the end of the log; while there are too few, after PROLONGED times as long.
    """
    begun = time.monotonic()
    handle, rest = open_at(mark, log), b""
    shown = begun
    while True:
        if chunk := handle.read(1 << 16):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines
            # Also where lines come faster than they are counted.
            if time.monotonic() - shown >= POLL_SECONDS:
                shown = time.monotonic()
                yield b""
            continue
        if log.exists() and log.stat().st_ino != Path(f"/proc/self/fd/{handle.fileno()}").stat().st_ino:
            handle.close()
            handle, rest = log.open("rb"), b""
            continue
        left = begun + seconds - time.monotonic()
        if left <= 0 and (left <= seconds - PROLONGED * seconds or not too_few()):
            handle.close()
            return
        yield b""
        time.sleep(min(POLL_SECONDS, left) if left > 0 else POLL_SECONDS)


def watch(options: argparse.Namespace) -> int:
    """Put the instances into rotation and watch them; a watcher started afterwards would miss the first requests."""
    paths = json.loads(sys.stdin.read() or "[]") if options.ask else []
    asker = questions.Questions(options.canary, paths, options.url, options.limit)
    counts = Watch()
    counts.recall(
        tail(LOG, TAIL_BYTES), time.time() - EARLIER * options.seconds, without={*options.canary, *options.down}
    )
    try:
        turn.enter(options.lock)
        if wrong := asker.before():
            print(wrong, file=sys.stderr)
            return 1
        with turn.held(options.lock), upstreams.alone():
            upstreams.set_down(options.down)
    except (upstreams.Refused, turn.Superseded) as error:
        print(error, file=sys.stderr)
        return 1
    mark = upstreams.place(LOG)
    counts.warm = time.monotonic() + options.warmup
    glances = evidence.Glances(max(1, options.errors), options.allowed)
    asker.go_on()
    enough = evidence.ENOUGH / options.balancers
    for line in follow(mark, LOG, options.seconds, lambda: counts.too_few(options.canary, enough)):
        if line:
            counts.add(line, time.monotonic())
            continue
        for server, wrong in asker.drain():
            counts.add_asked(server, wrong)
        if counts.fail(options.canary, glances):
            # Here and not in the play: in the seconds that it takes to report back, more requests would fail. If nginx
            # refuses, the play does it when it rolls back; another play does as it will.
            with contextlib.suppress(upstreams.Refused, turn.Superseded), turn.held(options.lock), upstreams.alone():
                upstreams.set_down([*options.down, *options.canary])
            counts.ended = True
            break
    asker.stop()
    # The last ones; and with no seconds to watch, all that were given before.
    for server, wrong in asker.drain():
        counts.add_asked(server, wrong)
    print(json.dumps(counts.result()))
    return 0


def sample(lines: Iterable[bytes], count: int) -> list[dict[str, Any]]:
    """The most requested paths, without those with a query, which may have side effects or be private.

    Then a few slow ones, with the `seconds` that they take: reports, long polls, streams. A rehearsal leaves them out.
    """
    seen: dict[tuple[str, str], list[float]] = {}
    for line in lines:
        entry = parse(line)
        path = str(entry.get("uri", "?"))
        if entry.get("method") != "GET" or entry.get("unwanted") != "0" or "?" in path or path.endswith(CUT):
            continue
        # A client may send any byte, which no client of ours sends on.
        if not (path + str(entry.get("host", ""))).isascii():
            continue
        tried = attempts(entry)
        if len(tried) == 1 and 200 <= tried[0][1] < 400:
            seen.setdefault((path, str(entry.get("host", ""))), []).append(tried[0][2])
    fast: list[dict[str, Any]] = []
    slow: list[dict[str, Any]] = []
    for (path, host), took in sorted(seen.items(), key=lambda one: len(one[1]), reverse=True):
        asked, usual = {"path": path, "host": host}, sorted(took)[math.ceil(USUAL * len(took)) - 1]
        if usual < SLOW_S:
            fast.append(asked)
        else:
            slow.append({**asked, "seconds": usual})
    return [*fast[:count], *slow[:SLOW_PATHS]]


def tail(log: Path, size: int) -> list[bytes]:
    with log.open("rb") as handle:
        handle.seek(max(0, log.stat().st_size - size))
        return handle.read().split(b"\n")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    verb = commands.add_parser("sample")
    verb.add_argument("--count", type=int, default=20, help="paths")
    verb.add_argument("--bytes", type=int, default=TAIL_BYTES, help="how much of the log's end is read")
    verb = commands.add_parser("watch")
    verb.add_argument("--seconds", type=float, required=True)
    verb.add_argument("--warmup", type=float, default=0, help="seconds in which latencies don't count")
    verb.add_argument(
        "--canary",
        action="append",
        default=[],
        metavar="ADDRESS:PORT",
        help="end at once, without these servers, when they fail",
    )
    verb.add_argument(
        "--down", action="append", default=[], metavar="ADDRESS:PORT", help="these servers stay out of rotation"
    )
    verb.add_argument("--errors", type=int, default=5, help="... this often")
    verb.add_argument("--allowed", type=float, default=0.01, help="... and by this share more than the others")
    verb.add_argument("--ask", action="store_true", help="read a list as sample prints it from standard input, to ask")
    verb.add_argument("--balancers", type=int, default=1, help="how many watch at once, whose counts are added")
    verb.add_argument("--url", default="http://localhost", help="of the site, as the canaries are asked for it")
    verb.add_argument("--limit", type=float, default=5, help="seconds until an answer has to begin")
    turn.add_option(verb)
    options = parser.parse_args(arguments)
    if options.command == "watch":
        return watch(options)
    print(json.dumps(sample(tail(LOG, options.bytes), options.count)))
    return 0
