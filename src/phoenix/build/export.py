"""Write a commit of a Git repository to standard output, as a tar archive of every file that the commit holds.

`git archive` alone obeys the commit's .gitattributes: it leaves out what they call export-ignore, and rewrites what
they call export-subst. Both are meant for a project's downloads; an application is to run with what was tested.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from phoenix.common import files

# Of all attributes, those in the repository's own info/attributes win, and of these the last.
WHOLE = b"* -export-ignore -export-subst\n"


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


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit")
    parser.add_argument("--repository", type=Path, default=Path(), help="by default the current folder's, or GIT_DIR")
    parser.add_argument("--output", type=Path, help="file for the archive, in place of standard output")
    options = parser.parse_args(arguments)
    words = ["git", "archive", "--format=tar"]
    words += [f"--output={options.output.resolve()}"] if options.output else []
    try:
        keep_whole(options.repository)
    except (ExportError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return subprocess.run([*words, options.commit], cwd=options.repository, check=False).returncode
