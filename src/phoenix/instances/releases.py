"""The releases on this host: which are complete, which one new instances get, and which are removed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from phoenix.common import files
from phoenix.instances import paths
from phoenix.instances.model import Change

# Written into a release once it became the current one.
MARK = ".phoenix-activated"
# Written beside what is unpacked: the checksum of the archive. Like all of a release, only root can change it.
CHECKSUM = ".phoenix-checksum"
# Stands for the checksum of an archive that a rehearsal has not built.
UNBUILT = "sha256:" + 64 * "0"


class NotUnpacked(Exception):
    """The release is not unpacked on this host."""


def old(found: Mapping[str, float], used: Iterable[str], keep: int) -> list[str]:
    """Releases to remove, of those that were current at the given times: all but the newest ones and those in use."""
    needed = set(used)
    ordered = sorted((name for name in found if name not in needed), key=lambda name: found[name], reverse=True)
    return ordered[max(keep - len(needed), 0) :]


def whole() -> list[str]:
    """Names of the releases that are unpacked."""
    return sorted(path.parent.name for path in paths.RELEASES.glob("[!.]*/.phoenix-start"))


def checksums() -> dict[str, str]:
    """The checksum of the archive that each release was unpacked from; none of what earlier versions unpacked."""
    notes = [note for name in whole() if (note := paths.RELEASES / name / CHECKSUM).is_file()]
    texts = {note.parent.name: note.read_text(encoding="ascii", errors="replace").strip() for note in notes}
    return {name: text for name, text in texts.items() if re.fullmatch(r"sha256:[0-9a-f]{64}", text)}


def compare(printed: str, host: str, name: str, checksum: str) -> dict[str, Any]:
    """Compare the release on a host, which printed this status, with control's archive of that name.

    there: it needs not be unpacked; differs: it has another content; refusal: why it can't get control's, or "".
    A release whose checksum was not recorded is taken for the same.
    """
    status = json.loads(printed) if printed.startswith("{") else {}
    own = status.get("checksums", {}).get(name, checksum)
    differs = checksum not in (own, UNBUILT)
    refusal = ""
    if differs and name in status["used"]:
        refusal = (
            f"The release {name} on {host} was unpacked from {short(own)}, but control's archive of that name is "
            f"{short(checksum)}, and {host} runs it, or would after a restart. Nothing of the application was changed. "
            "Deploy the source under a name of its own (deploy.yml -e phoenix_build_as=NAME), or another release. Once "
            "nothing runs it, it is replaced by itself; to remove it there: "
            f"phoenixctl instances drop --force --release {name}"
        )
    return {"there": name in status.get("releases", ()) and not differs, "differs": differs, "refusal": refusal}


def short(checksum: str) -> str:
    """A checksum for people: its first digits."""
    return f"{checksum[:19]}…"


def kept() -> list[str]:
    """Names of the releases that were current once: what can be rolled back to."""
    return sorted(path.parent.name for path in paths.RELEASES.glob(f"[!.]*/{MARK}"))


def unpacked(name: str) -> Path:
    """The release's folder. Raises NotUnpacked."""
    release = paths.RELEASES / name
    if not (release / ".phoenix-start").is_file():
        raise NotUnpacked(f"{release} is not on this host: it has to be unpacked first")
    folder = node(release)
    if folder and not Path(folder, "bin/node").exists():
        raise NotUnpacked(
            f"{name} was built for the Node.js in {folder}, which is not on this host: add that version to "
            "nodejs_archives, and run site.yml"
        )
    return release


def node(release: Path) -> str:
    """The folder of the Node.js that the release was built for; "" for a release of an earlier version of Phoenix."""
    record = release / ".phoenix-node"
    return record.read_text(encoding="utf-8").strip() if record.is_file() else ""


def mark_current() -> None:
    if paths.CURRENT.is_dir() and not (paths.CURRENT / MARK).exists():
        (paths.CURRENT / MARK).touch()


def prune(keep: int, check: bool = False) -> list[Change]:
    """Remove the oldest of those that were current once. Others may be about to become current."""
    found = {name: (paths.RELEASES / name / MARK).stat().st_mtime for name in kept()}
    return _remove(old(found, used(), keep), check)


def used() -> set[str]:
    """Names of the releases that something here runs, or would after a restart."""
    links = [paths.CURRENT, *paths.LINKS.glob("[0-9]*")]
    given = paths.processes().get("release")
    return {Path(files.target(link)).name for link in links if link.is_symlink()} | ({given} if given else set())


def activate(name: str, keep: int) -> list[Change]:
    """Make it the release of new instances, and remove old ones. Raises NotUnpacked."""
    release = unpacked(name)
    changes = []
    if files.target(paths.CURRENT) != str(release):
        files.point(paths.CURRENT, str(release))
        (release / MARK).touch()
        changes.append(Change("current", release=name))
    mark_current()
    return changes + prune(keep)


def drop(name: str, force: bool = False) -> list[Change]:
    """Remove a release that never became the current one; with force also one that did. One in use stays."""
    release = paths.RELEASES / name
    if name in used() or (not force and (release / MARK).exists()) or not release.is_dir():
        return []
    return _remove([name], False)


def _remove(names: Iterable[str], check: bool) -> list[Change]:
    changes = []
    for name in names:
        if not check:
            shutil.rmtree(paths.RELEASES / name)
        changes.append(Change("remove", release=name))
    return changes
