"""nginx's files on this host: take instances out of rotation and put them back, without losing a request.

  phoenixctl upstreams set [--down ADDRESS:PORT]...   marks exactly these servers as `down`; with --hosts, also makes
                                                      these the servers: [{"name", "address", "ports"}, ...] as JSON
  phoenixctl upstreams apply [--check]                makes standard input the whole file
  phoenixctl upstreams maintenance on|off             answers clients with 503, or no more
  phoenixctl upstreams load                           has nginx read its files where it has not taken them yet

All but `load` test the file first. All reload nginx where something changed or is not in force yet, and wait until
no worker uses the old files: when they end, no new request begins on a server that is down. They print one line of
JSON: whether anything changed, and the place in the access log from where the new upstreams serve (`mark`).

The file stays what its template makes of nginx_drained, so that a play that writes it again agrees with this program.
Exit status 1: nginx refused the files, and the upstreams stay as they were; or it did not take them in time. What nginx
has taken is recorded in LOADED, so that the next run finishes what was cut off in between.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from phoenix.common import endpoint, files, process
from phoenix.state import turn

UPSTREAMS = Path("/etc/nginx/phoenix/upstreams.conf")
# What else nginx reads of the role's: files, and folders with all below them.
SOURCES = (Path("/etc/nginx/nginx.conf"), Path("/etc/nginx/phoenix"), Path("/etc/nginx/tls"))
# The files that nginx has taken, and which nginx: a digest, and its process with the time of its start.
LOADED = Path("/run/phoenix-nginx.loaded")
LOG = Path("/var/log/nginx/access.log")
PID = Path("/run/nginx.pid")
WAIT_SECONDS = 10.0
SERVER = re.compile(r"^(\s*server )(\S+)((?: [^;]*?)??)( down)?;(.*)$")

UPSTREAM = re.compile(r"(?ms)^(upstream (\w+) \{\n)(.*?)^\}")
ORDINARY = ("phoenix", "phoenix_long")
SPARE, ISOLATE = "phoenix_spare", "phoenix_isolate"

MAINTENANCE = re.compile(r"(geo \$phoenix_maintenance \{\s*default )[01];")
# One change after another: each reads the file, and writes it again.
ALONE = Path("/run/phoenix-upstreams.lock")


class Refused(Exception):
    """nginx refused the upstreams; the text states the reason."""


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Wait until no other program changes the upstreams, and keep others waiting."""
    with ALONE.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def mark(text: str, down: Collection[str]) -> str:
    """The file with exactly these servers down."""

    def line(seen: str) -> str:
        match = SERVER.match(seen)
        if not match:
            return seen
        head, server, options, _, rest = match.groups()
        return f"{head}{server}{options}{' down' if server in down else ''};{rest}"

    return "\n".join(line(seen) for seen in text.split("\n"))


def down_servers(text: str) -> list[str]:
    """The servers of the file that are down."""
    return sorted({found[2] for line in text.split("\n") if (found := SERVER.match(line)) and found[4]})


def place_servers(text: str, hosts: Sequence[Mapping[str, Any]]) -> str:
    """The file with the instances on these hosts as its servers, all in rotation, and else as its template has it.

    hosts: {name, address, ports}, in the inventory's order; one without ports has no server. Raises Refused.
    """
    serving = [host for host in hosts if host["ports"]]
    if not serving:
        raise Refused("no host has an instance, so that nothing would serve")

    def upstream(found: re.Match[str]) -> str:
        lines = found[3].split("\n")
        numbers = [number for number, line in enumerate(lines) if SERVER.match(line)]
        if found[2] not in (*ORDINARY, SPARE, ISOLATE) or not numbers:
            return found[0]
        first, last = numbers[0], numbers[-1]
        head, example, options, _, _ = SERVER.match(lines[first]).groups()  # type: ignore[union-attr]
        made = []
        for host in serving:
            if found[2] in ORDINARY:
                made.append(f"    # {host['name']}")
                made += [f"{head}{endpoint.of(host['address'], port)}{options};" for port in host["ports"]]
            elif found[2] == SPARE:
                _, port = endpoint.parts(example)
                made.append(f"{head}{endpoint.of(host['address'], port)}{options}; # {host['name']}")
            else:
                known = (SERVER.match(lines[number]) for number in numbers)
                ports = dict.fromkeys(endpoint.parts(match[2])[1] for match in known if match)
                made += [f"{head}{endpoint.of(host['address'], port)}{options};" for port in ports]
        begin = first - (found[2] in ORDINARY)  # the comment with the first host's name
        return found[1] + "\n".join([*lines[:begin], *made, *lines[last + 1 :]]) + "}"

    return UPSTREAM.sub(upstream, text)


def try_out(text: str) -> None:
    """Raise Refused when nginx finds an error in the upstreams, within a minimal configuration."""
    with tempfile.TemporaryDirectory() as folder:
        upstreams, whole = Path(folder, "upstreams"), Path(folder, "nginx.conf")
        upstreams.write_text(text, encoding="utf-8")
        whole.write_text(f"error_log stderr; events {{}} http {{ include {upstreams}; }}", encoding="utf-8")
        _nginx("-t", "-q", "-c", str(whole))


def test() -> None:
    """Raise Refused when nginx finds an error in the whole configuration, upstreams included."""
    _nginx("-t", "-q")


def _nginx(*arguments: str) -> None:
    done = subprocess.run(["nginx", *arguments], stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise Refused(f"nginx {' '.join(arguments)} ended with status {done.returncode}: {done.stderr.strip()}")


def serving(master: str) -> set[str]:
    """Process numbers of the workers that take requests; old ones change their title when they begin to end."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = process.stat(path.name)[1]
            title = (path / "cmdline").read_bytes().rstrip(b"\0 ")
        except OSError:
            continue
        if parent == master and title == b"nginx: worker process":
            found.add(path.name)
    return found


def _master() -> str:
    """The process number of the running nginx; empty when it is stopped."""
    try:
        master = PID.read_text(encoding="ascii").strip()
        process.stat(master)
    except OSError:
        return ""
    return master


def _files() -> list[Path]:
    found = [path for source in SOURCES for path in ([source] if source.is_file() else source.rglob("*"))]
    return sorted(path for path in found if path.is_file())


def _digest() -> str:
    digest = hashlib.sha256()
    for path in _files():
        digest.update(f"{path}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _identity(master: str) -> str:
    return f"{master}/{process.stat(master)[19]}"


def in_force() -> bool:
    """Whether the running nginx has read its files as they are; a stopped one reads them at its start."""
    master = _master()
    if not master:
        return True
    try:
        taken = json.loads(LOADED.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        taken = {}
    if taken.get("nginx") == _identity(master):
        return bool(taken["digest"] == _digest())
    # Started since, by systemd: it has read what is older than it. Within a second of doubt it reads once more.
    booted = re.search(r"^btime ([0-9]+)$", Path("/proc/stat").read_text(encoding="ascii"), re.MULTILINE)
    began = int(booted[1] if booted else 0) + int(process.stat(master)[19]) / os.sysconf("SC_CLK_TCK")
    return all(path.stat().st_mtime < began - 1 for path in _files())


def reload() -> None:
    """Have nginx read its files, and wait until no old worker takes requests; a stopped nginx reads them at its start.

    `nginx -s reload` only sends a signal: old workers use the old upstreams until they are asked to finish, which is
    when their title changes.

    Raises:
        Refused: old workers still serve after WAIT_SECONDS.
    """
    master = _master()
    if not master:
        return
    digest, old = _digest(), serving(master)
    _nginx("-s", "reload")
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        now = serving(master)
        if now and not now & old:
            files.replace(LOADED, json.dumps({"nginx": _identity(master), "digest": digest}) + "\n")
            return
        time.sleep(0.02)
    raise Refused(f"nginx still serves with its old workers {WAIT_SECONDS:.0f} s after a reload: see its error.log")


def apply(text: str, *, check: bool = False) -> bool:
    """Apply the upstreams; whether that took a change. Raises Refused."""
    before = UPSTREAMS.read_text(encoding="utf-8") if UPSTREAMS.exists() else None
    if text == before:
        return not in_force() if check else load()
    try_out(text)
    if check:
        return True
    files.replace(UPSTREAMS, text)
    try:
        test()
    except Refused:
        if before is not None:
            files.replace(UPSTREAMS, before)
        raise
    reload()
    return True


def load() -> bool:
    """Have nginx read its files where they are not in force; whether that took a reload. Raises Refused."""
    if in_force():
        return False
    test()
    reload()
    return True


def set_down(down: Collection[str], hosts: Sequence[Mapping[str, Any]] = ()) -> bool:
    """Take exactly these servers out of rotation; whether that took a change. Raises Refused.

    hosts: whose instances are the servers, as place_servers has them; without, those that are.
    """
    text = UPSTREAMS.read_text(encoding="utf-8")
    return apply(mark(place_servers(text, hosts) if hosts else text, down))


def set_maintenance(on: bool) -> bool:
    """Answer all but visitors with 503, or no more; whether that took a change. Raises Refused."""
    text = UPSTREAMS.read_text(encoding="utf-8")
    wanted, found = MAINTENANCE.subn(rf"\g<1>{int(on)};", text, count=1)
    if not found:
        raise Refused(f"{UPSTREAMS} has no switch for maintenance: run site.yml --tags nginx, which writes it")
    return apply(wanted)


def place(log: Path = LOG) -> str:
    """The end of the access log, as inode:offset."""
    seen = log.stat()
    return f"{seen.st_ino}:{seen.st_size}"


def change(options: argparse.Namespace) -> bool:
    """Carry out a verb; whether that took a change. Raises Refused."""
    if options.verb == "set":
        return set_down(options.down, options.hosts)
    if options.verb == "apply":
        return apply(sys.stdin.read(), check=options.check)
    return set_maintenance(options.value == "on") if options.verb == "maintenance" else load()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("down", help="print the servers that are out of rotation")
    verb = verbs.add_parser("set", help="take exactly the named servers out of rotation")
    verb.add_argument("--down", action="append", default=[], metavar="ADDRESS:PORT")
    verb.add_argument("--hosts", type=json.loads, default=[], metavar="JSON", help="the hosts whose instances serve")
    turn.add_option(verb)
    verb = verbs.add_parser("apply", help="make standard input the whole file")
    verb.add_argument("--check", action="store_true", help="only report whether anything would change")
    turn.add_option(verb)
    verb = verbs.add_parser("maintenance", help="answer clients with 503, or no more")
    verb.add_argument("value", choices=("on", "off"))
    turn.add_option(verbs.add_parser("load", help="have nginx read its files where it has not taken them yet"))
    options = parser.parse_args(arguments)
    if options.verb == "down":
        print(json.dumps(down_servers(UPSTREAMS.read_text(encoding="utf-8")) if UPSTREAMS.exists() else []))
        return 0
    lock = getattr(options, "lock", "")
    try:
        turn.enter(lock)
        with turn.held(lock), alone():
            changed = change(options)
    except (Refused, turn.Superseded) as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps({"changed": changed, "mark": place() if LOG.exists() else ""}))
    return 0
