#!/usr/bin/python3
"""Move the dumps of the backup's repository aside for the tests' own, and move them back. Runs as root, stdlib only.

usage: store_aside.py away ROOT    the repository is empty afterwards
       store_aside.py back ROOT    delete newer dumps and move the old ones back; a second run changes nothing

Both may be interrupted anywhere: `back` then still restores everything. A folder next to the repository records the
progress: while ROOT.moving exists, dumps are being moved and nothing may be deleted; ROOT.aside holds all of them.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

FOLDERS = ("dumps", "failures", "receipts")


def move(source: Path, target: Path) -> None:
    """Move the contents of source's folders into those of target."""
    for name in FOLDERS:
        (target / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in sorted((source / name).glob("*")):
            shutil.move(str(path), str(target / name / path.name))


def away(root: Path) -> None:
    back(root)  # the remains of an interrupted run
    moving, aside = states(root)
    moving.mkdir(mode=0o700)
    move(root, moving)
    moving.rename(aside)


def back(root: Path) -> None:
    moving, aside = states(root)
    if aside.exists():
        for name in FOLDERS:
            for path in (root / name).glob("*"):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
        aside.rename(moving)
    if moving.exists():
        move(moving, root)
        shutil.rmtree(moving)


def states(root: Path) -> tuple[Path, Path]:
    return root.with_name(f"{root.name}.moving"), root.with_name(f"{root.name}.aside")


if __name__ == "__main__":
    {"away": away, "back": back}[sys.argv[1]](Path(sys.argv[2]))
