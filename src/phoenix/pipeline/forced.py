#!/usr/bin/python3 -I
"""All that a pipeline's SSH key can do on control; the forced command of the user phoenix-deploy.

package COMMIT       builds the source (a tar archive on standard input) and prints the release's version
deploy VERSION       rolls a release out that was built
rollback [VERSION]   rolls back to the previous or the named release
verify               the smoke checks
record               prints the last deploy as JSON

Anything else is refused with exit status 64.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

RUN = ["sudo", "-n", "/usr/local/bin/phoenix-run"]
SOURCES = "/var/lib/phoenix-deploy/sources"
COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
MAX_SOURCE_MB = 200


def refuse(text: str) -> int:
    print(f"phoenix-deploy: {text}", file=sys.stderr)
    return 64


def play(name: str, *variables: str) -> int:
    """Run a play of the fleet; its output goes to standard error, so that standard output is the answer alone."""
    command = [*RUN, name, *(word for one in variables for word in ("-e", one))]
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False).returncode


def receive(folder: str) -> str:
    """Unpack standard input into a folder; what is wrong with it, or "". tar drops leading slashes and refuses `..`."""
    left = MAX_SOURCE_MB << 20
    command = ["tar", "--extract", "--no-same-owner", "--no-same-permissions", "--directory", folder]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as tar:
        assert tar.stdin
        try:
            while left > 0 and (block := sys.stdin.buffer.read(1 << 16)):
                left -= len(block)
                tar.stdin.write(block)
        except BrokenPipeError:
            pass  # tar has said why
        finally:
            tar.stdin.close()
    if left <= 0:
        return f"the source is larger than {MAX_SOURCE_MB} MB"
    return "standard input is no tar archive" if tar.returncode else ""


def package(commit: str) -> int:
    """Unpack what is on standard input, build it, and forget it."""
    folder = tempfile.mkdtemp(prefix=f"{commit[:8]}-", dir=SOURCES)
    os.chmod(folder, 0o755)
    try:
        if wrong := receive(folder):
            return refuse(wrong)
        with open(f"{folder}/package.json", encoding="utf-8") as file:
            version = f"{json.load(file)['version']}-{commit[:8]}"
        if not VERSION.fullmatch(version):
            return refuse(f"package.json: the version {version!r} names no release")
        if status := play("build", f"phoenix_source={folder}", f"phoenix_version={version}"):
            return status
        print(version)
        return 0
    except (OSError, ValueError, KeyError, TypeError) as error:
        return refuse(f"package.json at the top of the source can't be read: {error}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def record() -> int:
    return subprocess.run(
        ["/usr/local/lib/phoenix/phoenix_deploys.py", "show", "--last", "1", "--json"], check=False
    ).returncode


def main(words: list[str]) -> int:
    match words:
        case ["package", commit] if COMMIT.fullmatch(commit):
            return package(commit)
        case ["deploy", version] if VERSION.fullmatch(version):
            return play("deploy", f"phoenix_version={version}")
        case ["rollback"]:
            return play("rollback")
        case ["rollback", version] if VERSION.fullmatch(version):
            return play("rollback", f"phoenix_version={version}")
        case ["verify"]:
            return play("verify")
        case ["record"]:
            return record()
    return refuse("package COMMIT, deploy VERSION, rollback [VERSION], verify or record, and nothing else")


if __name__ == "__main__":
    # Under sshd's forced command the caller's words are in the environment only.
    sys.exit(main(os.environ.get("SSH_ORIGINAL_COMMAND", "").split()))
