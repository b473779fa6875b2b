#!/usr/bin/python3
"""Gives the backup's repository a good dump of three times as much as another, as far as its manifest goes.

usage: larger_dump.py FOLDER OF DUMPS, NAME OF THE OTHER, NAME
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path


def main() -> None:
    dumps = Path(sys.argv[1])
    larger = shutil.copytree(dumps / sys.argv[2], dumps / sys.argv[3])
    manifest = json.loads((larger / "manifest.json").read_text())
    for namespace in manifest["namespaces"].values():
        namespace.update({name: 3 * (namespace[name] or 0) for name in ("documents", "bytes")})
    (larger / "manifest.json").write_text(json.dumps(manifest))
    receipts = dumps.parent / "receipts"
    receipt = json.loads((receipts / f"{sys.argv[2]}.json").read_text())
    copied = receipts / f"{sys.argv[3]}.json"
    copied.write_text(json.dumps({**receipt, "number": receipt["number"] + 1000}))
    owner = dumps.stat()
    for path in (copied, larger, *larger.iterdir()):
        shutil.chown(path, owner.st_uid, owner.st_gid)


if __name__ == "__main__":
    main()
