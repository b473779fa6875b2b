"""phoenixctl build WHAT: releases of the application, and archives of sources, of the project and of Phoenix itself."""

from __future__ import annotations

import sys

from phoenix.build import export, plugins, project, release, source, toolkit

WHAT = {
    "export": export.main,
    "plugins": plugins.main,
    "project": project.main,
    "release": release.main,
    "source": source.main,
    "toolkit": toolkit.main,
}


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in WHAT:
        print(f"usage: phoenixctl build {'|'.join(WHAT)} ...", file=sys.stderr)
        return 64
    return WHAT[arguments[0]](arguments[1:])
