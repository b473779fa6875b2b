"""What a recovery finds in a store's folder, on a host that may have nothing else yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from phoenix.backup import inventory, offsite, state
from phoenix.backup.oplog.chain import Chain, Range, bases, continued, show
from phoenix.backup.store import Config, Dump, Store


def at(root: Path) -> Store:
    """A store in a folder, with nothing of its settings but where it is."""
    return Store(Config(str(root), "", "", 7, 0, 0, 0, 30, 0.25, "", 0, False))


def newest_moment(known: list[Dump], ranges: list[Range]) -> tuple[str, str]:
    """Pure: the newest good dump, and the second of the oplog's last entry after it, or "". Both "" without one."""
    good = [dump for dump in bases(known) if dump.counts]
    if not good:
        return "", ""
    within = continued(ranges, good[-1])
    return good[-1].name, show(within.last[0]) if within else ""


def holdings(root: Path) -> dict[str, Any]:
    """What a store's folder holds; `held` is false where it is none."""
    found: dict[str, Any] = {"held": offsite.held(root), "dump": "", "moment": "", "dumps": 0, "state": {}}
    found["inventory"] = ""
    if not found["held"]:
        return found
    store = at(root)
    known = store.dumps()
    found["dump"], found["moment"] = newest_moment(known, Chain(root).ranges())
    found["dumps"] = len(offsite.wanted(known))
    for folder in sorted((root / "logs").iterdir()):
        parts = {name: str(path) for name, path in state.newest(folder).items()} if folder.is_dir() else {}
        if folder.name == inventory.FOLDER:
            found["inventory"] = parts.get("inventory", "")
        elif parts:
            found["state"][folder.name] = parts
    return found
