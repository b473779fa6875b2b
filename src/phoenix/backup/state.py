"""What else a host needs to be back, encrypted on its way to the store: records, releases, keys, the pipeline.

A part's name in the store follows from what it holds, so the store itself answers whether it has it already: nothing
is remembered here that could disagree, and an unchanged part costs a look at its files.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import os
import re
import stat
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from phoenix.backup import files, sealed, sender

TRIES = 3
PATIENCE = 30.0  # seconds until the next try, such as while the host's logs are being sent
NAME = re.compile(r"state\.([a-z]+)-[0-9]{8}T[0-9]{6}Z-[0-9a-f]{12}\.tar\.age")
PART = re.compile(r"[a-z]+")


@dataclass(frozen=True)
class Part:
    """paths, exclude: glob patterns of absolute paths; a folder is meant with all that is in it."""

    name: str
    paths: Sequence[str]
    exclude: Sequence[str] = field(default_factory=list)


def parts(values: Iterable[Mapping[str, object]]) -> list[Part]:
    """Raises TypeError or ValueError."""
    found = [Part(**value) for value in values]  # type: ignore[arg-type]
    if wrong := [one.name for one in found if not PART.fullmatch(one.name)]:
        raise ValueError(f"{wrong}: the name of a part of the state is of lower-case letters")
    return found


def listing(part: Part, top: Path = Path("/")) -> list[Path]:
    """The files, folders and links of a part, each after its folder."""

    def walk(path: Path) -> Iterator[Path]:
        if any(fnmatch.fnmatch(f"/{path.relative_to(top)}", pattern) for pattern in part.exclude):
            return
        yield path
        if path.is_dir() and not path.is_symlink():
            for below in sorted(path.iterdir()):
                yield from walk(below)

    roots = {path for pattern in part.paths for path in top.glob(pattern.lstrip("/"))}
    return [path for root in sorted(roots) for path in walk(root)]


def name_of(part: Part, found: Sequence[Path], recipients: bytes) -> str:
    """The name in the store: part, time of the newest change, and a digest of names, modes, sizes and times.

    And of the recipients: once they are others, the part is sent again, for them.

    A folder's time counts, as what was there in between must not pass for what is there now; but not where something
    in it is left out, such as a lock that comes and goes.
    """
    digest, newest, kept = hashlib.sha256(recipients), 0.0, set(found)
    for path in found:
        seen = path.lstat()
        digest.update(f"{path}\0{seen.st_mode}\n".encode())
        if not stat.S_ISDIR(seen.st_mode) or kept.issuperset(path.iterdir()):
            newest = max(newest, seen.st_mtime)
            digest.update(f"{seen.st_size}\0{seen.st_mtime_ns}\n".encode())
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(newest))
    return f"state.{part.name}-{stamp}-{digest.hexdigest()[:12]}.tar.age"


def pack(part: Part, target: Path, recipients: Path, top: Path = Path("/")) -> str:
    """Write a part, encrypted; returns its name. Raises sender.Failed when it changes all the time, sealed.Unsealed."""
    known = recipients.read_bytes()
    for _ in range(TRIES):
        try:
            found = listing(part, top)
            name = name_of(part, found, known)
            with sealed.sealing(target, recipients) as stream, tarfile.open(fileobj=stream, mode="w|") as archive:
                for path in found:
                    archive.add(path, path.relative_to(top), recursive=False)
            # A repository that was pushed to meanwhile might have names for what is not in the archive.
            if name_of(part, listing(part, top), known) == name:
                return name
        except (FileNotFoundError, tarfile.TarError):
            continue
        except OSError as error:
            if "unexpected end of data" not in str(error):  # tarfile's, of a file that became shorter
                raise
    raise sender.Failed(f"the state {part.name} changed each time while it was read")


def named(part: Part, recipients: bytes) -> str:
    """Its name as it is now, "" where there is nothing of it. Raises sender.Failed when it changes all the time.

    What starts this program is a change, and another may follow: records are replaced by files that are renamed.
    """
    for _ in range(TRIES):
        with contextlib.suppress(FileNotFoundError):
            found = listing(part)
            return name_of(part, found, recipients) if found else ""
    raise sender.Failed(f"the state {part.name} changed each time while it was read")


def run(config: sender.Config, folder: Path) -> int:
    """Send the parts that the store does not have. folder: for what is on its way."""
    for leftover in folder.glob("*.age"):
        leftover.unlink()
    sent: list[str] = []

    def packed(part: Part) -> Path:
        target = folder / f"{part.name}.tar.age"
        sent.append(pack(part, target, sealed.RECIPIENTS))
        return target

    due, recipients = [], sealed.RECIPIENTS.read_bytes() if config.state else b""
    for part in parts(config.state):
        if name := named(part, recipients):
            due.append((name, lambda part=part: packed(part)))
    try:
        held = _send(config, due)
    except sealed.Unsealed as error:
        raise sender.Failed(str(error)) from error
    finally:
        for leftover in folder.glob("*.age"):
            leftover.unlink()
    print(f"sent {', '.join(sent) or 'nothing'}; the store holds {len(held)} of {len(due)} parts")
    return 0


def _send(config: sender.Config, due: Sequence[tuple[str, Callable[[], Path]]]) -> list[str]:
    for _ in range(TRIES - 1):
        try:
            return sender.send_files(config, due)
        except sender.Failed as error:
            print(f"again in {PATIENCE:g} s: {error}", flush=True)
            time.sleep(PATIENCE)
    return sender.send_files(config, due)


def newest(folder: Path) -> dict[str, Path]:
    """The newest archive of each part in a host's folder of the store, by the order of receipt."""
    # Without the books by their names, which begin with the time of the newest change.
    notes = files.read_json(folder / ".received.json") or {}
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("state.*"), key=lambda path: (notes.get(path.name, {}).get("number", 0), path.name)):
        if match := NAME.fullmatch(path.name):
            found[match[1]] = path
    return found


def unpack(source: Path, identity: str, within: Sequence[str], top: Path = Path("/")) -> list[str]:
    """Write an archive's files back, with their owners; returns their names.

    within: glob patterns of the paths that may be written, as in Part. Raises sealed.Unsealed.
    """
    done, links = [], set[PurePosixPath]()
    with sealed.opened(source, identity) as archive:
        # Owners count here, which the filter of newer Pythons would drop; what may be written is checked below.
        archive.extraction_filter = lambda member, _: member
        for member in archive:
            path = PurePosixPath(member.name)
            if ".." in path.parts or path.is_absolute() or not _allowed(path, within) or links & set(path.parents):
                raise sealed.Unsealed(f"{source.name} holds {member.name}, which is not of this host's state")
            if not (member.isreg() or member.isdir() or member.issym()):
                raise sealed.Unsealed(f"{source.name} holds {member.name}, which is neither file, folder nor link")
            if member.issym():
                links.add(path)
            target = top / path
            if not member.isdir() and (target.is_symlink() or target.exists()):
                target.unlink()
            if os.geteuid() == 0:
                _ensure_owner(member.uname)
            archive.extract(member, top)
            done.append(f"/{path}")
    return done


def _allowed(path: PurePosixPath, within: Sequence[str]) -> bool:
    spelled = [f"/{one}" for one in (path, *path.parents)]
    return any(fnmatch.fnmatch(one, pattern) for one in spelled for pattern in within)


def _ensure_owner(name: str) -> None:
    """Create a user of whom files are: the roles that come later adjust it, and find its files in place."""
    import pwd  # noqa: PLC0415 - on hosts only

    try:
        pwd.getpwnam(name)
    except KeyError:
        # With a group of the same name, as the roles' users have.
        subprocess.run(["useradd", "--system", "--user-group", "--no-create-home", name], check=True)
