"""The state of each run, as the commit's status on the Git host: phoenixctl pipeline report HOST API PROJECT [LINK]

HOST: github, gitlab or gitea (also Forgejo); API: its address, such as https://api.github.com; PROJECT: owner/name;
LINK: where the status leads. The token is the unit's credential `token`.

Compares what the runs are with what the host accepted, so that a state is neither lost nor sent twice.
Exit status: 0 all accepted, 75 not yet, 1 not for ten minutes.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phoenix.common import files, web
from phoenix.pipeline import runs

NAME = "phoenix"
TIMEOUT_S = 10.0
PATIENCE_S = 600.0  # until a host that does not accept is an error
GIVE_UP_S = 86400.0
LATER, FAILED = 75, 1

TEXTS = {
    "waiting": "Waits for its turn",
    "running": "Is being checked and delivered",
    "good": "Checked, and rolled out",
    "failed": "Failed",
    "superseded": "Not run: a newer push was there",
}


@dataclass(frozen=True)
class Host:
    """A kind of Git host: its name for each state, where a status goes, and how the token does."""

    words: Mapping[str, str]
    path: str
    header: str
    scheme: str = ""


GITHUB = {"waiting": "pending", "running": "pending", "good": "success", "failed": "failure", "superseded": "error"}
HOSTS = {
    # https://docs.github.com/en/rest/commits/statuses
    "github": Host(GITHUB, "/repos/{project}/statuses/{commit}", "Authorization", "Bearer "),
    # https://docs.gitlab.com/api/commits/#set-commit-pipeline-status
    "gitlab": Host(
        {"waiting": "pending", "running": "running", "good": "success", "failed": "failed", "superseded": "canceled"},
        "/projects/{quoted}/statuses/{commit}",
        "PRIVATE-TOKEN",
    ),
    # https://docs.gitea.com/api (repoCreateStatus)
    "gitea": Host(GITHUB, "/repos/{project}/statuses/{commit}", "Authorization", "token "),
}


@dataclass(frozen=True)
class Target:
    """One project on a Git host."""

    host: Host
    api: str
    project: str
    token: str
    link: str = ""

    def request(self, commit: str, state: str, stage: str = "") -> urllib.request.Request:
        quoted = urllib.parse.quote(self.project, safe="")
        path = self.host.path.format(project=urllib.parse.quote(self.project), quoted=quoted, commit=commit)
        text = f"Failed: {stage}" if state == "failed" and stage else TEXTS[state]
        body = {"state": self.host.words[state], "description": text, "context": NAME, "name": NAME}
        if self.link:
            body["target_url"] = self.link
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "phoenix-pipeline",
            self.host.header: f"{self.host.scheme}{self.token}",
        }
        return urllib.request.Request(self.api.rstrip("/") + path, json.dumps(body).encode(), headers)


def send(request: urllib.request.Request) -> str:
    """Send it; return the error, or ""."""
    try:
        web.send(request, TIMEOUT_S)
        return ""
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code}"
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"


def report(
    target: Target,
    record: Path,
    top: Path = runs.TOP,
    deliver: Callable[[urllib.request.Request], str] = send,
    now: Callable[[], float] = time.time,
) -> int:
    """Send the states that the host has not accepted yet.

    record: what it has, and since when one waits, as JSON: {commit: {"state": accepted, "since": seconds since 1970}}.
    """
    try:
        known: dict[str, dict[str, Any]] = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    statuses: set[int] = set()
    wanted = runs.states(top)
    known = {commit: entry for commit, entry in known.items() if commit in wanted}
    for commit, state in wanted.items():
        entry = known.setdefault(commit, {})
        if entry.get("state") == state:
            continue
        stage = runs.failed_stage(commit, top) if state == "failed" else ""
        error = deliver(target.request(commit, state, stage))
        waited = now() - entry.setdefault("since", now())
        if error:
            print(f"{commit} {state}: {error}{'; given up' if waited > GIVE_UP_S else ''}", flush=True)
            statuses.add(FAILED if waited > PATIENCE_S else LATER)
        if not error or waited > GIVE_UP_S:
            known[commit] = {"state": state}
    files.replace(record, json.dumps(known, indent=1) + "\n")
    return min(statuses, default=0)


def main(arguments: list[str]) -> int:
    if len(arguments) not in (3, 4) or arguments[0] not in HOSTS:
        print(f"usage: phoenixctl pipeline report {'|'.join(HOSTS)} API PROJECT [LINK]", file=sys.stderr)
        return 64
    token = Path(os.environ["CREDENTIALS_DIRECTORY"], "token").read_text(encoding="utf-8").strip()
    target = Target(HOSTS[arguments[0]], arguments[1], arguments[2], token, *arguments[3:])
    return report(target, Path(os.environ["STATE_DIRECTORY"], "reported.json"))
