"""Whether a list of plugins is closed (whatever one needs is in it, new enough), and users' passwords as files."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def version_key(version: str) -> tuple[list[int], int]:
    """Orders versions by their numbers, 2.9 < 2.10, and 1.0-beta < 1.0; a commit's hash (703.ve58f) does not count."""
    plain = re.sub(r"[.-]v[0-9a-f_]{2,}.*$", "", version)
    numbers = [int(part) for part in re.findall(r"\d+", re.split(r"[A-Za-z]", plain)[0])]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return numbers, -1 if re.search(r"alpha|beta|rc|snapshot", plain, re.IGNORECASE) else 0


def unmet(plugins: Iterable[Mapping[str, Any]]) -> list[str]:
    """One sentence for each plugin that is missing, too old, or named twice."""
    listed = list(plugins)
    versions = {str(plugin["name"]): str(plugin["version"]) for plugin in listed}
    found = [
        f"{name} is named more than once" for name in versions if sum(plugin["name"] == name for plugin in listed) > 1
    ]
    for plugin in listed:
        one = f"{plugin['name']} {plugin['version']}"
        for name, least in (plugin.get("needs") or {}).items():
            if name not in versions:
                found.append(f"{one} needs {name} {least}, which is not in the list")
            elif version_key(versions[name]) < version_key(str(least)):
                found.append(f"{one} needs {name} {least}, but {versions[name]} is listed")
    return found


def user_secrets(users: Iterable[Mapping[str, str]]) -> list[dict[str, str]]:
    """A file for each user's password, named by number: a login may hold what no file's name may."""
    return [{"name": f"user-{number}", "content": user["password"]} for number, user in enumerate(users, 1)]


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"jenkins_unmet": unmet, "jenkins_user_secrets": user_secrets}
