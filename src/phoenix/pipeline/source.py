"""What is new at the application's Git host waits for the pipeline like a push: phoenixctl pipeline fetch URL BRANCH

Asks the host for the head of the branch. One that it has not had yet is fetched into the repository, and put into the
queue; the first one of all is only fetched, since nobody has pushed it to this pipeline. Where the unit has the
credentials `source-key` and `source-known-hosts`, Git's SSH takes these and no others.
Exit status: 0 asked, 75 the host did not answer, 1 not for ten minutes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phoenix.common import files
from phoenix.pipeline import runs

ASK_SECONDS = 60.0
FETCH_SECONDS = 600.0
PATIENCE_S = 600.0  # until a host that does not answer is an error
LATER, FAILED = 75, 1
# One that sends nearly nothing for half a minute is gone; Git has no other limit.
HTTP = ("-c", "http.lowSpeedLimit=100", "-c", "http.lowSpeedTime=30")


class SourceError(Exception):
    """The host did not give what it was asked for; the text states why."""


def environment(outer: Mapping[str, str], credentials: str) -> dict[str, str]:
    """The environment of Git: it asks nobody, and with a key in the folder of credentials SSH takes that one alone."""
    found = {name: value for name, value in outer.items() if not name.startswith("GIT_")}
    found.update(GIT_TERMINAL_PROMPT="0", LC_ALL="C.UTF-8")
    ssh = [
        "ssh",
        "-F",
        "/dev/null",
        "-o",
        "BatchMode=yes",
        "-o",
        "StrictHostKeyChecking=yes",
        "-o",
        "ConnectTimeout=15",
    ]
    ssh += ["-o", "ServerAliveInterval=15"]
    if credentials and Path(credentials, "source-key").exists():
        ssh += ["-o", "IdentitiesOnly=yes", "-i", f"{credentials}/source-key"]
        ssh += ["-o", f"UserKnownHostsFile={credentials}/source-known-hosts"]
    return {**found, "GIT_SSH_COMMAND": shlex.join(ssh)}


@dataclass(frozen=True)
class Source:
    """One branch at a Git host, and the folder of the pipeline that it is for."""

    url: str
    branch: str
    top: Path = runs.TOP
    credentials: str = ""

    @property
    def repository(self) -> Path:
        return self.top / "application.git"

    @property
    def record(self) -> Path:
        """What is known, as JSON: of which URL and branch, the last head that was queued, since when no answer came."""
        return self.repository / "phoenix-source.json"

    def git(self, seconds: float, *words: str) -> str:
        """What Git prints.

        Raises:
            SourceError: it failed, or took longer.
        """
        command = ["git", *HTTP, "-C", str(self.repository), *words]
        try:
            done = subprocess.run(
                command,
                env=environment(os.environ, self.credentials),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise SourceError(f"no answer within {seconds:.0f} s") from error
        if done.returncode:
            text = [line for line in done.stderr.splitlines() if line.strip()]
            raise SourceError("; ".join(text[:3]) or f"git {words[0]} ended with {done.returncode}")
        return done.stdout

    def head(self) -> str:
        """The commit that the host has as the branch's head.

        Raises:
            SourceError: it did not say.
        """
        name = f"refs/heads/{self.branch}"
        # A pattern matches the end of a name, so that of another branch may come as well.
        lines = [line.split("\t") for line in self.git(ASK_SECONDS, "ls-remote", "--", self.url, name).splitlines()]
        heads = [words[0] for words in lines if words[1:] == [name]]
        if len(heads) != 1 or not runs.COMMIT.fullmatch(heads[0]):
            raise SourceError(f"there is no branch {self.branch}")
        return heads[0]

    def fetch(self) -> str:
        """Have the branch in the repository as the host has it, and return its head, which may have gone on meanwhile.

        Raises:
            SourceError: it could not be fetched.
        """
        name = f"refs/heads/{self.branch}"
        # Git's own clean-up in the background would be ended with the unit.
        options = ["--quiet", "--no-tags", "--no-write-fetch-head", "--force", "--no-recurse-submodules"]
        self.git(FETCH_SECONDS, "-c", "gc.autoDetach=false", "fetch", *options, "--", self.url, f"{name}:{name}")
        return self.git(ASK_SECONDS, "rev-parse", "--verify", name).strip()

    def queue(self, commit: str) -> None:
        """Have it wait as the newest push, also after a power cut."""
        path = self.top / "queue" / commit
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        except FileExistsError:
            # Whatever has the name is the push's; the checks, which may write there too, may own it.
            with contextlib.suppress(OSError):
                os.utime(path, follow_symlinks=False)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def known(self) -> dict[str, Any]:
        """The record, where it is of this URL and branch."""
        try:
            record = json.loads(self.record.read_text(encoding="utf-8"))
            return dict(record) if record["of"] == [self.url, self.branch] else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def note(self, **what: Any) -> None:
        files.replace(self.record, json.dumps({"of": [self.url, self.branch], **what}, indent=1) + "\n", durable=True)


def ask(source: Source, now: Callable[[], float] = time.time) -> int:
    """Ask once; return the exit status."""
    known = source.known()
    queued = known.get("queued", "")
    try:
        head = source.head()
        if head != queued:
            head = source.fetch()
    except SourceError as error:
        since = known.get("since", now())
        source.note(queued=queued, since=since)
        print(f"{source.url}: {error}", flush=True)
        return FAILED if now() - since > PATIENCE_S else LATER
    if head != queued:
        # In this order: cut in between, the next poll finds it new once more.
        if queued:
            source.queue(head)
        print(f"{head}: {'queued' if queued else 'the first head; what is pushed from now on is queued'}", flush=True)
    if known != {"of": [source.url, source.branch], "queued": head}:
        source.note(queued=head)
    return 0


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        print("usage: phoenixctl pipeline fetch URL BRANCH", file=sys.stderr)
        return 64
    url, branch = arguments
    return ask(Source(url, branch, credentials=os.environ.get("CREDENTIALS_DIRECTORY", "")))
