"""phoenixctl page write: writes the status page to /var/lib/phoenix-page/index.html, which Netdata serves."""

from __future__ import annotations

import sys
from pathlib import Path

from phoenix.common import files
from phoenix.page.collect import collect
from phoenix.page.layout import page

FILE = Path("/var/lib/phoenix-page/index.html")


def main(arguments: list[str]) -> int:
    if arguments != ["write"]:
        print("usage: phoenixctl page write", file=sys.stderr)
        return 64
    picture = collect()
    for problem in picture.problems:
        print(problem, file=sys.stderr)
    files.replace(FILE, page(picture))
    return 0
