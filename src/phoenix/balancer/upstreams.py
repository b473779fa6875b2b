"""nginx's upstreams on this host: take instances out of rotation and put them back, without losing a request.

  phoenixctl upstreams set [--down ADDRESS:PORT]...   marks exactly these servers as `down`
  phoenixctl upstreams apply [--check]                makes standard input the whole file

Both test the file, reload nginx where something changed, and wait until no worker uses the old one: when they end, no
new request begins on a server that is down. They print one line of JSON: whether anything changed, and the place in the
access log from where the new upstreams serve (`mark`).

The file stays what its template makes of nginx_drained, so that a play that writes it again agrees with this program.
Exit status 1: nginx refused the file, which then stays as it was, or did not take it in time; the next run reloads.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from pathlib import Path

from phoenix.common import files, process

UPSTREAMS = Path("/etc/nginx/phoenix/upstreams.conf")
LOG = Path("/var/log/nginx/access.log")
PID = Path("/run/nginx.pid")
WAIT_SECONDS = 10.0
SERVER = re.compile(r"^(\s*server )(\S+)((?: [^;]*?)??)( down)?;(.*)$")
# Stands at the end of a file that nginx has not taken yet, so that a run which was cut off is finished by the next.
PENDING = "# not in force yet\n"


class Refused(Exception):
    """nginx refused the upstreams; the text states the reason."""


def mark(text: str, down: Collection[str]) -> str:
    """The file with exactly these servers down."""

    def line(seen: str) -> str:
        match = SERVER.match(seen)
        if not match:
            return seen
        head, server, options, _, rest = match.groups()
        return f"{head}{server}{options}{' down' if server in down else ''};{rest}"

    return "\n".join(line(seen) for seen in text.split("\n"))


def try_out(text: str) -> None:
    """Raise Refused when nginx finds an error in the upstreams, within a minimal configuration."""
    with tempfile.TemporaryDirectory() as folder:
        upstreams, whole = Path(folder, "upstreams"), Path(folder, "nginx.conf")
        upstreams.write_text(text, encoding="utf-8")
        whole.write_text(f"error_log stderr; events {{}} http {{ include {upstreams}; }}", encoding="utf-8")
        _nginx("-t", "-q", "-c", str(whole))


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


def reload() -> None:
    """Have nginx read its files, and wait until no old worker takes requests; a stopped nginx reads them at its start.

    `nginx -s reload` only sends a signal: old workers use the old upstreams until they are asked to finish, which is
    when their title changes.

    Raises:
        Refused: the whole configuration has an error, or old workers still serve after WAIT_SECONDS.
    """
    try:
        master = PID.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return
    _nginx("-t", "-q")
    old = serving(master)
    _nginx("-s", "reload")
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        now = serving(master)
        if now and not now & old:
            return
        time.sleep(0.02)
    raise Refused(f"nginx still serves with its old workers {WAIT_SECONDS:.0f} s after a reload: see its error.log")


def apply(text: str, *, check: bool = False) -> bool:
    """Apply the upstreams; whether that took a change. Raises Refused."""
    before = UPSTREAMS.read_text(encoding="utf-8") if UPSTREAMS.exists() else ""
    if text == before:
        return False
    try_out(text)
    if not check:
        files.replace(UPSTREAMS, text + PENDING)
        reload()
        files.replace(UPSTREAMS, text)
    return True


def set_down(down: Collection[str]) -> bool:
    """Take exactly these servers out of rotation; whether that took a change. Raises Refused."""
    before = UPSTREAMS.read_text(encoding="utf-8")
    wanted = mark(before, down)
    return apply(wanted[: -len(PENDING)] if wanted.endswith(PENDING) else wanted)


def place(log: Path = LOG) -> str:
    """The end of the access log, as inode:offset."""
    seen = log.stat()
    return f"{seen.st_ino}:{seen.st_size}"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("set", help="take exactly the named servers out of rotation")
    verb.add_argument("--down", action="append", default=[], metavar="ADDRESS:PORT")
    verb = verbs.add_parser("apply", help="make standard input the whole file")
    verb.add_argument("--check", action="store_true", help="only report whether anything would change")
    options = parser.parse_args(arguments)
    try:
        changed = set_down(options.down) if options.verb == "set" else apply(sys.stdin.read(), check=options.check)
    except Refused as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps({"changed": changed, "mark": place() if LOG.exists() else ""}))
    return 0
