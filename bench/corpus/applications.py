"""The applications, in the order in which they follow each other, with what each needs of the fleet."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.corpus.servers import ADDRESS, ARCHIVES
from lab import archives
from tests.harness.corpus import APPS, write_git_dependency

WRITABLE = "/var/lib/corpus-uploads"


@dataclass(frozen=True)
class Application:
    """One of the corpus, by its folder: what it needs, how its source is made, and its own settings.

    newest_mongodb: of the servers that its driver can use.
    """

    name: str
    needs: str
    make: Callable[[Path], object] | None = None
    settings: Callable[[], Mapping[str, Any]] = dict
    newest_mongodb: tuple[int, int] | None = None

    def write(self, folder: Path) -> None:
        """Write its source, as it is unless it says how it is made."""
        if self.make:
            self.make(folder)
        else:
            shutil.copytree(APPS / self.name, folder)


def linked_source(folder: Path) -> None:
    """With the link that the documentation advises to commit."""
    shutil.copytree(APPS / "writes-beside", folder)
    (folder / "uploads").symlink_to(WRITABLE)


def of_archive(component: archives.Component) -> tuple[str, str]:
    """Path and checksum of an archive of the lab's cache."""
    path = ARCHIVES / component.filename
    return str(path), f"sha256:{archives.sha256(path)}"


def current_node() -> dict[str, Any]:
    """The settings of a release for the current Node.js."""
    found = {one.name: one for one in archives.FOR_APPLICATIONS if one.name in ("nodejs", "npm")}
    values: dict[str, Any] = {}
    for prefix, name in (("nodejs", "nodejs"), ("release_npm", "npm")):
        values[f"{prefix}_version"] = found[name].version
        values[f"{prefix}_archive"], values[f"{prefix}_archive_checksum"] = of_archive(found[name])
    return values


CORPUS = (
    Application("no-lock", "a lock file, which the build makes"),
    Application("start-shapes", "cross-env, node -r, npm's variables"),
    Application("typescript", "its compiler, for the build alone"),
    Application("native", "compilers, release_build_packages"),
    Application("git-dependency", "git", lambda folder: write_git_dependency(folder, f"{ADDRESS}/greeting.git")),
    Application("https-redirect", "X-Forwarded-Proto"),
    Application("sessions", "the database"),
    Application("socketio", "nginx_affinity"),
    Application("streams", "nothing"),
    Application("uploads", "nginx_paths"),
    Application("migration", "phoenix_release_command"),
    Application("writes-beside", "phoenix_writable_paths", linked_source),
    Application("esm", "a current Node.js and the database", settings=current_node),
    Application("legacy-app", "MongoDB 5.0, `LAB_PROFILE=mongodb-5.0`", newest_mongodb=(5, 0)),
)
