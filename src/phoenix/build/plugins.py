"""Jenkins' plugins: check that a list holds all dependencies, and make such a list from an update center's data.

phoenixctl build plugins UPDATE_CENTER PLUGIN...   reads update-center.actual.json of the Jenkins release (from
https://updates.jenkins.io/update-center.actual.json?version=VERSION, or a mirror) and writes YAML to standard output
"""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def version_key(version: str) -> tuple[list[int], int]:
    """Return a key that orders versions: 2.9 < 2.10, 1.0-beta < 1.0; a commit's hash (703.ve58f) is ignored."""
    plain = re.sub(r"[.-]v[0-9a-f_]{2,}.*$", "", version)
    numbers = [int(part) for part in re.findall(r"\d+", re.split(r"[A-Za-z]", plain)[0])]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return numbers, -1 if re.search(r"alpha|beta|rc|snapshot", plain, re.IGNORECASE) else 0


def unmet(plugins: Iterable[Mapping[str, Any]]) -> list[str]:
    """Describe each plugin that is missing, too old, or named twice."""
    listed = list(plugins)
    versions = {str(plugin["name"]): str(plugin["version"]) for plugin in listed}
    found = [
        f"{name} is named more than once" for name in versions if sum(plugin["name"] == name for plugin in listed) > 1
    ]
    for plugin in listed:
        dependent = f"{plugin['name']} {plugin['version']}"
        for name, least in (plugin.get("needs") or {}).items():
            if name not in versions:
                found.append(f"{dependent} needs {name} {least}, which is not in the list")
            elif version_key(versions[name]) < version_key(str(least)):
                found.append(f"{dependent} needs {name} {least}, but {versions[name]} is listed")
    return found


def user_secrets(users: Iterable[Mapping[str, str]]) -> list[dict[str, str]]:
    """Make a file for each user's password, named by number: not every login is a valid file name."""
    return [{"name": f"user-{number}", "content": user["password"]} for number, user in enumerate(users, 1)]


def closure(plugins: Mapping[str, Mapping[str, Any]], wanted: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return {plugin: {dependency: least version}} for the wanted plugins and all their dependencies.

    Raises:
        KeyError: the update center does not list a plugin, which the error names.
    """
    found: dict[str, dict[str, str]] = {}
    pending = list(wanted)
    while pending:
        name = pending.pop()
        if name not in found:
            needs = plugins[name].get("dependencies", [])
            found[name] = {plugin["name"]: plugin["version"] for plugin in needs if not plugin.get("optional")}
            pending += found[name]
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
        print(f"the update center does not list {error}", file=sys.stderr)
        return 1
    return 0
