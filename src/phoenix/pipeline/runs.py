"""The runs of the pipeline on control, as the folder of phoenix-ci shows them.

What was pushed runs as that user, and may have put anything there: nothing is read through a link, and of what is read
only commits and words that are known count.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

TOP = Path("/var/lib/phoenix-ci")
COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
ENDED = ("good", "failed", "superseded")
STAGES = ("lint", "test", "package", "deploy", "verify", "record")


def content(path: Path, most: int = 100) -> str:
    """The beginning of a file, or "": it may have become a link, a pipe, or anything."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            return os.read(handle, most).decode("ascii", "replace").strip()
        finally:
            os.close(handle)
    except OSError:
        return ""


def commit(path: Path) -> str:
    """The commit that a file names, or ""."""
    text = content(path)
    return text if COMMIT.fullmatch(text) else ""


def _names(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if COMMIT.fullmatch(name))  # noqa: PTH208 - of links as well
    except OSError:
        return []


def states(top: Path = TOP) -> dict[str, str]:
    """Commit -> waiting, running, good, failed or superseded, of all that are known."""
    found = {name: content(top / "runs" / name / "result") for name in _names(top / "runs")}
    found = {name: state for name, state in found.items() if state in ENDED}
    # One that was pushed again has a result of before.
    found.update(dict.fromkeys(_names(top / "queue"), "waiting"))
    running = commit(top / "runs" / ".running")
    if running in found:
        found[running] = "running"
    return found


def failed_stage(name: str, top: Path = TOP) -> str:
    """The stage that a run ended with, or ""."""
    try:
        stages = json.loads(content(top / "runs" / name / "stages.json", 4096))
        return next(stage for stage in STAGES if stages.get(stage, {}).get("status"))
    except (ValueError, AttributeError, StopIteration):
        return ""
