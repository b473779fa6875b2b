"""Write a commit of a Git repository to standard output, as a tar archive of every file that the commit holds.

`git archive` alone obeys the commit's .gitattributes: it leaves out what they call export-ignore, and rewrites what
they call export-subst. Both are meant for a project's downloads; an application is to run with what was tested.
Submodules that are checked out there are part of it, each with the commit that this one names.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

from phoenix.common import files

# Of all attributes, those in the repository's own info/attributes win, and of these the last.
WHOLE = b"* -export-ignore -export-subst\n"
SUBMODULE = "160000 commit "


class ExportError(Exception):
    """A commit that can't be exported; its text states the reason."""


def _git(repository: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=repository, capture_output=True, text=True, errors="surrogateescape", check=False
    )
    if done.returncode:
        raise ExportError(f"{repository}: git {' '.join(words)} failed: {done.stderr.strip()}")
    return done.stdout.removesuffix("\n")


def keep_whole(repository: Path) -> None:
    """Have what `git archive` exports of the repository be whole from now on.

    Raises:
        ExportError: this is no repository.
        OSError: its attributes can't be written.
    """
    path = repository / _git(repository, "rev-parse", "--git-path", "info/attributes")
    before = path.read_bytes() if path.exists() else b""
    if before.endswith(b"\n" + WHOLE) or before == WHOLE:
        return
    path.parent.mkdir(exist_ok=True)
    files.replace(path, before + (b"" if before.endswith(b"\n") or not before else b"\n") + WHOLE)


def submodules(repository: Path, commit: str) -> Iterator[tuple[str, str]]:
    """Path and commit of each submodule of a commit that is checked out."""
    for entry in _git(repository, "ls-tree", "-r", "-z", "--full-tree", commit).split("\0"):
        kind, _, path = entry.partition("\t")
        if kind.startswith(SUBMODULE) and (repository / path / ".git").exists():
            yield path, kind.removeprefix(SUBMODULE)


def export(repository: Path, commit: str, to: tarfile.TarFile, prefix: str = "") -> None:
    """Add the files of a commit to an archive, below prefix.

    Raises:
        ExportError: Git could not read them.
        OSError: the repository's attributes can't be written.
    """
    keep_whole(repository)
    words = ["git", "archive", "--format=tar", f"--prefix={prefix}", commit]
    readable, exported = True, 0
    with subprocess.Popen(words, cwd=repository, stdout=subprocess.PIPE) as archive:
        assert archive.stdout
        try:
            with tarfile.open(fileobj=archive.stdout, mode="r|") as members:
                for member in members:
                    to.addfile(member, members.extractfile(member) if member.isreg() else None)
                    exported += 1
        except tarfile.ReadError:
            # Git has failed, and has reported why, or the commit has no file: tarfile cannot read such an archive.
            readable = exported == 0 and not _git(repository, "ls-tree", commit)
        while archive.stdout.read(tarfile.RECORDSIZE):
            pass  # the padding, so that Git's own status counts and not a broken pipe
    if archive.returncode or not readable:
        raise ExportError(f"{repository}: the commit {commit} can't be exported")
    for path, own in submodules(repository, commit):
        export(repository / path, own, to, f"{prefix}{path}/")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit")
    parser.add_argument("--repository", type=Path, default=Path(), help="by default the current folder's, or GIT_DIR")
    parser.add_argument("--output", type=Path, help="file for the archive, in place of standard output")
    options = parser.parse_args(arguments)
    try:
        output = options.output.open("wb") if options.output else os.fdopen(os.dup(1), "wb")
        with output, tarfile.open(fileobj=output, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            export(options.repository, options.commit, archive)
    except (ExportError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0
