#!/usr/bin/python3
"""Samples the command lines of all processes until its standard input ends, and looks for secrets. Stdlib only, Linux.

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

INTERVAL_S = 0.005


def command_lines() -> list[str]:
    lines = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            lines.append((process / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ").strip())
        except OSError:
            continue  # it ended
    return lines


def main() -> None:
    secrets: list[str] = json.loads(sys.stdin.buffer.readline())
    samples, programs = 0, set()
    found: dict[int, set[str]] = {}
    print("sampling", flush=True)
    while True:
        for line in command_lines():
            if line:
                programs.add(line.split(" ", 1)[0].rsplit("/", 1)[-1])
            for place, secret in enumerate(secrets):
                if secret in line:
                    found.setdefault(place, set()).add(line.replace(secret, "***"))
        samples += 1
        ready, _, _ = select.select([0], [], [], INTERVAL_S)
        if ready and not os.read(0, 65536):
            break
    result: dict[str, Any] = {"samples": samples, "programs": sorted(programs)}
    print(json.dumps(result | {"found": {place: sorted(lines) for place, lines in found.items()}}))


if __name__ == "__main__":
    main()
