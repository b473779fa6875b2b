#!/usr/bin/python3
"""Sample the command lines of all processes until standard input ends, and search them for secrets. Stdlib only, Linux.

usage: command_lines.py < the secrets, on one line as a JSON list, then nothing until the end

Prints "sampling" once it begins and JSON at the end: samples (how often), programs (names that ran), found (secret's
place in the list -> the command lines, with the secret cut out).
"""

from __future__ import annotations

import json
import os
import select
import sys
from pathlib import Path
from typing import Any

# mongodump of a small database takes a second; processes shorter than this interval can be missed.
INTERVAL_S = 0.02


def command_lines() -> set[str]:
    lines = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            text = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue  # it ended
        lines.add(text.replace("\0", " ").strip())
    return lines - {""}


def main() -> None:
    secrets: list[str] = json.loads(sys.stdin.buffer.readline())
    samples, seen = 0, set()
    print("sampling", flush=True)
    while True:
        seen |= command_lines()
        samples += 1
        ready, _, _ = select.select([0], [], [], INTERVAL_S)
        if ready and not os.read(0, 65536):
            break
    found = {
        place: [line.replace(secret, "***") for line in sorted(seen) if secret in line]
        for place, secret in enumerate(secrets)
    }
    result: dict[str, Any] = {
        "samples": samples,
        "programs": sorted({line.split(" ", 1)[0].rsplit("/", 1)[-1] for line in seen}),
        "found": {place: lines for place, lines in found.items() if lines},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
