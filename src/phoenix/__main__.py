"""Entry point of `python -m phoenix` and of the archive phoenix.pyz."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # The archive is reached through links that move with every version: a process keeps the version it started with.
    sys.path[0] = os.path.realpath(sys.path[0])
    # Its modules, compiled when it was installed: Python compiles those of an archive at every start.
    compiled = os.path.join(os.path.dirname(sys.path[0]), "lib")
    if os.path.isfile(sys.path[0]) and os.path.isdir(compiled):
        sys.path[0] = compiled

    from phoenix.cli import main

    sys.exit(main(sys.argv[1:]))
