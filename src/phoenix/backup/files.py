"""Atomic file operations."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from phoenix.common.files import replace


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write(path: Path, content: str | bytes, mode: int = 0o640) -> None:
    """Replace a file in one step."""
    replace(path, content, mode, durable=True)


def clear(folder: Path) -> None:
    """Remove all that is in a folder."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None if the file is missing or unreadable."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
