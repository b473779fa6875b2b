#!/usr/bin/python3
"""Add a good dump to the backup's repository, by its manifest three times as large as another.

usage: larger_dump.py DUMPS_FOLDER OTHER_NAME NAME
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
