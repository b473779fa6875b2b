#!/usr/bin/env python3
"""Pin plugins with all that they need: writes the list for jenkins_plugins.

lock_plugins.py UPDATE_CENTER PLUGIN...   reads update-center.actual.json of the wanted Jenkins release (from
https://updates.jenkins.io/update-center.actual.json?version=VERSION, or a mirror) and writes YAML to standard output
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def closure(plugins: Mapping[str, Mapping[str, Any]], wanted: Iterable[str]) -> dict[str, dict[str, str]]:
    """{plugin: {what it needs: least version}} for the wanted ones and, in turn, all that they need.

    Raises KeyError with the name of a plugin that the update center does not know.
    """
    found: dict[str, dict[str, str]] = {}
    left = list(wanted)
    while left:
        name = left.pop()
        if name not in found:
            needs = plugins[name].get("dependencies", [])
            found[name] = {one["name"]: one["version"] for one in needs if not one.get("optional")}
            left += found[name]
    return found


def lock(center: Mapping[str, Any], wanted: Iterable[str]) -> str:
    plugins = center["plugins"]
    lines = ["---", "jenkins_plugins:"]
    for name, needs in sorted(closure(plugins, wanted).items()):
        checksum = base64.b64decode(plugins[name]["sha256"]).hex()
        lines += [f"  - name: {name}", f"    version: {json.dumps(plugins[name]['version'])}"]
        lines += [f"    checksum: sha256:{checksum}", f"    needs: {json.dumps(needs)}"]
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    if len(arguments) < 2:
        print(__doc__, file=sys.stderr)
        return 64
    try:
        print(lock(json.loads(Path(arguments[0]).read_text(encoding="utf-8")), arguments[1:]), end="")
    except KeyError as error:
        print(f"the update center does not know {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
