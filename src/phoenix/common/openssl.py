"""The program openssl: hosts have no library for certificates in their Python."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Seen:
    """What a certificate says: its names, and the seconds since 1970 between which it is valid."""

    names: frozenset[str]
    begin: float
    end: float


def run(*arguments: str | Path, given: str = "", folder: Path | None = None) -> str:
    """What it prints. given: its standard input; folder: where it runs.

    Raises:
        ValueError: it failed; the text has its first line of error.
        OSError: it is not installed.
    """
    done = subprocess.run(["openssl", *arguments], input=given, capture_output=True, text=True, check=False, cwd=folder)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
        raise ValueError(f"openssl {arguments[0]}: {lines[0]}")
    return done.stdout
