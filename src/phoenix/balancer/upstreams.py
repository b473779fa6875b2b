#!/usr/bin/env python3
"""Take instances out of nginx's pools and put them back, without a request lost.

phoenix_pools.py [--down ADDRESS:PORT]...   marks exactly these servers as `down` in upstreams.conf, tries the file, and
reloads nginx where something changed. When it ends, no new request begins on a server that is down. Prints one line of
JSON: whether it changed anything, and the place in the access log from where the new pools serve (`mark`).

The file stays what its template makes of nginx_drained, so that a play that writes it anew agrees with this program.
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

POOLS = Path("/etc/nginx/phoenix/upstreams.conf")
LOG = Path("/var/log/nginx/access.log")
PID = Path("/run/nginx.pid")
WAIT_SECONDS = 10.0
SERVER = re.compile(r"^(\s*server )(\S+)((?: [^;]*?)??)( down)?;(.*)$")


def mark(text: str, down: Collection[str]) -> str:
    """The pools' file with exactly these servers down."""

    def line(seen: str) -> str:
        match = SERVER.match(seen)
        if not match:
            return seen
        head, server, options, _, rest = match.groups()
        return f"{head}{server}{options}{' down' if server in down else ''};{rest}"

    return "\n".join(line(seen) for seen in text.split("\n"))


def try_out(text: str) -> None:
    """Raises CalledProcessError when nginx refuses the pools."""
    with tempfile.TemporaryDirectory() as folder:
        pools, whole = Path(folder, "pools"), Path(folder, "nginx.conf")
        pools.write_text(text)
        whole.write_text(f"error_log stderr; events {{}} http {{ include {pools}; }}")
        subprocess.run(["nginx", "-t", "-q", "-c", str(whole)], check=True)


def serving(master: str) -> set[str]:
    """Process numbers of the workers that take requests; old ones change their title when they begin to end."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            # Fields follow the name, which may hold spaces, in parentheses; the second one is the parent.
            parent = (path / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
            title = (path / "cmdline").read_bytes().rstrip(b"\0 ")
        except OSError:
            continue
        if parent == master and title == b"nginx: worker process":
            found.add(path.name)
    return found


def reload() -> None:
    """Have nginx read its files, and wait until no old worker takes requests. Raises TimeoutError."""
    master = PID.read_text().strip()
    old = serving(master)
    subprocess.run(["nginx", "-s", "reload"], check=True)
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        now = serving(master)
        if now and not now & old:
            return
        time.sleep(0.02)
    raise TimeoutError(
        f"nginx still serves with its old workers {WAIT_SECONDS:.0f} s after a reload: see its error.log"
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--down", action="append", default=[], metavar="ADDRESS:PORT")
    options = parser.parse_args(arguments)
    before = POOLS.read_text()
    after = mark(before, options.down)
    if after != before:
        try:
            try_out(after)
            partial = POOLS.with_suffix(".new")
            partial.write_text(after)
            partial.chmod(0o644)
            partial.rename(POOLS)
            reload()
        except (subprocess.CalledProcessError, TimeoutError) as error:
            print(error, file=sys.stderr)
            return 1
    seen = LOG.stat()
    print(json.dumps({"changed": after != before, "mark": f"{seen.st_ino}:{seen.st_size}"}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
