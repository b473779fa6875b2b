"""The forced command of the user phoenix-deploy: all that a pipeline's SSH key can do on control.

package COMMIT       build the source (a tar archive on standard input) and print the release's version
deploy VERSION       roll out a release that was built
rollback [VERSION]   roll back to the previous or the named release
verify               run the smoke checks
record               print the last deploy as JSON
result good|failed   how the run ended, for the alarms

Anything else is refused with exit status 64.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from phoenix.pipeline.runs import COMMIT
from phoenix.state import deploys

CONTROL = ["sudo", "-n", "/usr/local/bin/phoenixctl"]
RUN = [*CONTROL, "play"]
SOURCES = "/var/lib/phoenix-deploy/sources"
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
MAX_SOURCE_MB = 200


def refuse(text: str) -> int:
    print(f"phoenixctl pipeline: {text}", file=sys.stderr)
    return 64


def play(name: str, *variables: str) -> int:
    """Run a play of the fleet; its output goes to standard error, so that standard output holds only the answer."""
    command = [*RUN, name, *(word for variable in variables for word in ("-e", variable))]
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False).returncode


def receive(folder: str) -> str:
    """Unpack standard input into a folder; return the error, or "". tar drops leading slashes and refuses `..`."""
    left = MAX_SOURCE_MB << 20
    command = ["tar", "--extract", "--no-same-owner", "--no-same-permissions", "--directory", folder]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as tar:
        assert tar.stdin
        try:
            while left > 0 and (block := sys.stdin.buffer.read(1 << 16)):
                left -= len(block)
                tar.stdin.write(block)
        except BrokenPipeError:
            pass  # tar has reported why
        finally:
            tar.stdin.close()
    if left <= 0:
        return f"the source is larger than {MAX_SOURCE_MB} MB"
    return "standard input is not a tar archive" if tar.returncode else ""


def package(commit: str) -> int:
    """Build the source on standard input, then delete it."""
    folder = tempfile.mkdtemp(prefix=f"{commit[:8]}-", dir=SOURCES)
    Path(folder).chmod(0o755)
    try:
        if wrong := receive(folder):
            return refuse(wrong)
        package = json.loads(Path(folder, "package.json").read_text(encoding="utf-8"))
        version = f"{package['version']}-{commit[:8]}"
        if not VERSION.fullmatch(version):
            return refuse(f"package.json: the version {version!r} is not a valid release name")
        source = (f"phoenix_source={folder}", "release_source_exported=true")
        if status := play("build", *source, f"phoenix_build_as={version}"):
            return status
        print(version)
        return 0
    except (OSError, ValueError, KeyError, TypeError) as error:
        return refuse(f"package.json at the top of the source can't be read: {error}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def answer(words: list[str]) -> int:
    """Carry out the request of the key's holder and return the exit status."""
    verb, rest = (words[0], words[1:]) if words else ("", [])
    if verb == "package" and len(rest) == 1 and COMMIT.fullmatch(rest[0]):
        return package(rest[0])
    if verb in ("deploy", "rollback") and len(rest) == 1 and VERSION.fullmatch(rest[0]):
        return play(verb, f"phoenix_version={rest[0]}")
    if verb in ("rollback", "verify") and not rest:
        return play(verb)
    if verb == "record" and not rest:
        return deploys.main(["show", "--last", "1", "--json"])
    if verb == "result" and len(rest) == 1 and rest[0] in ("good", "failed"):
        return subprocess.run([*CONTROL, "pipeline", "result", rest[0]], check=False).returncode
    return refuse("package COMMIT, deploy VERSION, rollback [VERSION], verify, record or result, and nothing else")


def main(arguments: list[str]) -> int:
    if arguments != ["serve"]:
        return refuse("this is the forced command of an SSH key: phoenixctl pipeline serve")
    # Under sshd's forced command the caller's words are in the environment only.
    return answer(os.environ.get("SSH_ORIGINAL_COMMAND", "").split())
