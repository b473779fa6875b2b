"""The forced command of a developer's SSH key: Git's two halves of a push and a fetch, of one repository.

Whatever path the client gives, it is the application's repository:
git push ssh://phoenix-deliver@control/application main
"""

from __future__ import annotations

import os
import shlex
import sys

REPOSITORY = "/var/lib/phoenix-ci/application.git"
ALLOWED = ("git-receive-pack", "git-upload-pack")


def command(line: str) -> list[str]:
    """The command line for what the client asks for; [] for anything that is refused."""
    try:
        words = shlex.split(line)
    except ValueError:
        return []
    return [words[0], REPOSITORY] if len(words) == 2 and words[0] in ALLOWED else []


def main() -> int:
    words = command(os.environ.get("SSH_ORIGINAL_COMMAND", ""))
    if not words:
        print(
            "phoenixctl pipeline git: this key may push to the application's repository and fetch from it",
            file=sys.stderr,
        )
        return 64
    os.execvp(words[0], words)
