"""Entry point of `python -m phoenix` and of the archive phoenix.pyz."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # The archive is reached through links that move with every version: a process keeps the version it started with.
    here = Path(sys.path[0]).resolve()
    # Its modules, compiled when it was installed: Python compiles those of an archive at every start.
    compiled = here.with_name("lib")
    sys.path[0] = str(compiled if here.is_file() and (compiled / "phoenix" / "cli.py").is_file() else here)

    from phoenix.cli import main

    sys.exit(main(sys.argv[1:]))
