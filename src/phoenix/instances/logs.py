"""What this host's instances and other processes write, from the journal; on control with --fleet, those of all hosts.

phoenixctl logs [--fleet] [--since TIME] [--lines N] [--follow] [PORT|PROCESS...]

Each line: time in UTC, host, unit, text. TIME is systemd's: "2 hours ago", "2026-11-25 10:00:00", "today".
With --follow it goes on with what they write from now on, until Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from fnmatch import fnmatch
from typing import Any

from phoenix.instances import fleet_logs

UNITS = ("phoenix@*.service", "phoenix-*@*.service")
FIELDS = ",".join(
    ("MESSAGE", "SYSLOG_IDENTIFIER", "_HOSTNAME", "__REALTIME_TIMESTAMP", "_SOURCE_REALTIME_TIMESTAMP",
     "_SYSTEMD_UNIT", "_PID", "_UID", "UNIT", "OBJECT_SYSTEMD_UNIT")
)  # fmt: skip
# What journalctl reports, beside an exit status of 1, when no unit of these names has ever logged.
NOTHING = "No data available"
REVERSE = "--reverse"
# Of what was written before it is followed, as journalctl itself.
BEFORE = 10


def line(entry: Mapping[str, Any]) -> str:
    """A journal entry for people. One that is not text is a list of bytes there."""
    text = entry.get("MESSAGE") or ""
    if isinstance(text, list):
        text = bytes(text).decode(errors="replace")
    when = datetime.fromtimestamp(int(entry["__REALTIME_TIMESTAMP"]) / 1e6, timezone.utc)
    shown = f"{when:%Y-%m-%dT%H:%M:%S.%fZ} {entry.get('_HOSTNAME', '-')} {entry.get('SYSLOG_IDENTIFIER', '-')}"
    return "\n".join(f"{shown} {part}".rstrip() for part in str(text).splitlines() or [""])


def lines(journal: Iterable[str], patterns: Sequence[str] = ("*",)) -> Iterator[str]:
    """The lines of what journalctl prints as JSON, of these units; what is no JSON is left out."""
    for one in journal:
        try:
            entry = json.loads(one)
            if any(fnmatch(unit(entry), pattern) for pattern in patterns):
                yield line(entry)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue


def unit(entry: Mapping[str, Any]) -> str:
    """The unit that an entry is of: whose process wrote it, or of which systemd or another system's service reports."""
    reported = entry.get("UNIT") if entry.get("_PID") == "1" else ""
    reported = reported or (entry.get("OBJECT_SYSTEMD_UNIT") if entry.get("_UID") == "0" else "")
    return str(reported or entry.get("_SYSTEMD_UNIT") or "")


def merged(outputs: Iterable[str], keep: int = 0) -> list[str]:
    """The lines of several hosts in the order of their times; the newest ones only, where keep is not 0."""
    found = [one for output in outputs for one in output.splitlines()]
    # Stable: lines of one moment stay in the order in which their host has them.
    found.sort(key=lambda text: text.partition(" ")[0])
    return found[-keep:] if keep else found


def units(names: Sequence[str]) -> tuple[str, ...]:
    """The patterns of units; names are ports of instances, and processes or schedules, and none are all."""
    named = tuple(f"phoenix@{name}.service" if name.isdigit() else f"phoenix-{name}@*.service" for name in names)
    return named or UNITS


def command(*options: str) -> list[str]:
    """journalctl's command line."""
    return ["journalctl", "--output=json", f"--output-fields={FIELDS}", "--quiet", "--no-pager", *options]


def written(since: str, count: int, patterns: Sequence[str], until: str = "") -> list[str]:
    """The command line for what is in the journal; of so many lines the newest, the newest first.

    Before version 254 of systemd, with a beginning or an end, they are others unless they are asked for in this order.
    """
    return command(
        *(f"--unit={pattern}" for pattern in patterns),
        *([f"--since={since}"] if since else []),
        *([f"--until={until}"] if until else []),
        *([f"--lines={count}", REVERSE] if count else []),
    )


def followed(since: str) -> list[str]:
    """The command line for what comes, of all units: journalctl looks for those of a pattern once, when it starts."""
    return command(f"--since={since}", "--follow")


def words(since: str, count: int, follow: bool, names: Sequence[str]) -> list[str]:
    """The arguments for each host of the fleet."""
    return [
        *([f"--since={since}"] if since else [] if follow else ["--since=15 minutes ago"]),
        *([f"--lines={count}"] if count else []),
        *(["--follow"] if follow else []),
        *(["--", *names] if names else []),
    ]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--fleet", action="store_true", help="on control: of all application hosts, by default of the last 15 minutes"
    )
    parser.add_argument("--since", default="")
    parser.add_argument("--lines", type=int, default=0, help="only the newest; 0: all")
    parser.add_argument("--follow", action="store_true", help="go on with what they write from now on")
    parser.add_argument("names", nargs="*", metavar="PORT|PROCESS")
    options = parser.parse_args(arguments)
    if options.fleet:
        return fleet_logs.show(
            words(options.since, options.lines, options.follow, options.names),
            options.follow,
            lambda found: merged(["\n".join(found)], options.lines),
        )
    # A reader that has seen enough, such as head, closes the pipe.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    patterns = units(options.names)
    try:
        if not options.follow:
            return shown(written(options.since, options.lines, patterns), options.names)
        now = f"@{time.time():.6f}"
        count = options.lines or (0 if options.since else BEFORE)
        return shown(written(options.since, count, patterns, now)) or shown(followed(now), patterns=patterns, live=True)
    except KeyboardInterrupt:
        return 0


def shown(words: Sequence[str], names: Sequence[str] = (), patterns: Sequence[str] = ("*",), live: bool = False) -> int:
    """Print the lines of these units from what journalctl prints, to its end, and return its exit status.

    names: which were asked for; live: each line at once, not only when there are many of them.
    """
    # Its messages, and what instances write, whatever the language of who asks.
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", env=environment
    ) as journal:
        assert journal.stdout and journal.stderr
        # Where the connection is lost over which this was asked for, nothing else would end it before the next line.
        fleet_logs.when_unread(journal.terminate)
        try:
            found = lines(journal.stdout, patterns)
            for one in reversed([*found]) if REVERSE in words else found:
                print(one, flush=live)
            sys.stdout.flush()
            complaint = journal.stderr.read().strip()
        except BaseException:
            journal.terminate()
            raise
    if not journal.returncode:
        return 0
    if NOTHING in complaint:
        if names:
            print(f"phoenixctl logs: nothing of {', '.join(names)} has ever logged here", file=sys.stderr)
        return 0
    if complaint:
        print(f"phoenixctl logs: {complaint}", file=sys.stderr)
    return journal.returncode
