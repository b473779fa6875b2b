"""Build a release of a Node.js application: a checksummed archive that runs without a package registry.

status: prints {"present": bool, "checksum": "sha256:...", "built": [name of each release that is there]} of a release.
build:  unpacks the source, runs `npm ci --production` as an unprivileged user, writes .phoenix-start,
        packs everything, and keeps the newest releases.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import gzip
import json
import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from phoenix.common import files

_ASSIGNMENT = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*=")
_VARIABLE = re.compile(r"\$(?:[A-Za-z_][A-Za-z0-9_]*|\{[A-Za-z_][A-Za-z0-9_]*\})")
_OPERATORS = frozenset(";&|<>()")
_BUILTINS = frozenset(
    {"cd", "export", "source", ".", "exec", "set", "ulimit", "umask", "if", "for", "while", "npm", "npx", "yarn"}
)


class BuildError(Exception):
    """Something the developer or the operator can mend; its text says what."""


def parse_start(command: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Split npm start's command into leading assignments and the words to execute.

    Raises BuildError for anything that would need a shell to stay in between: systemd must see node itself.
    """
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        words = list(lexer)
    except ValueError as error:
        raise BuildError(f"package.json: scripts.start {command!r} can't be read: {error}") from error
    for word in words:
        if (word and set(word) <= _OPERATORS) or "`" in word or "$(" in word or "\n" in word:
            raise BuildError(
                f"package.json: scripts.start {command!r} uses the shell operator {word!r}. Phoenix runs the command "
                "without a shell: make it one program with arguments, and do the rest in prepare or in the program"
            )
        if "$" in _VARIABLE.sub("", word):
            raise BuildError(
                f"package.json: scripts.start {command!r}: only $NAME and ${{NAME}} can be used, not {word!r}"
            )
    variables: list[tuple[str, str]] = []
    while words and _ASSIGNMENT.match(words[0]):
        name, _, value = words.pop(0).partition("=")
        variables.append((name, value))
    if not words:
        raise BuildError(f"package.json: scripts.start {command!r} names no program")
    if words[0] in _BUILTINS:
        raise BuildError(
            f"package.json: scripts.start {command!r} begins with {words[0]!r}, which would stay between systemd and "
            "node. Name the program itself, for example: node server.js"
        )
    return variables, words


def quote(word: str) -> str:
    """Quote a word for sh, leaving $NAME to be expanded when the instance starts."""
    if "$" not in word:
        return shlex.quote(word)
    return '"' + re.sub(r'(["\\`])', r"\\\1", word) + '"'


def start_script(package: dict[str, Any], has_server_js: bool) -> str:
    """The text of .phoenix-start; the shell replaces itself by the program."""
    scripts = package.get("scripts") or {}
    for hook in ("prestart", "poststart"):
        if scripts.get(hook):
            raise BuildError(
                f"package.json: scripts.{hook} would be left out, since npm does not start the instances. "
                "Do it in prepare (run when the release is built), or in the program"
            )
    command = scripts.get("start") or ("node server.js" if has_server_js else "")
    if not command:
        raise BuildError("package.json has no scripts.start, and there is no server.js: nothing to run")
    variables, words = parse_start(command)
    lines = [
        "#!/bin/sh",
        "# Made when the release was built, from npm start's command; systemd runs it in the release.",
    ]
    lines.append('export PATH="$PWD/node_modules/.bin:$PATH"')
    lines += [f"export {name}={quote(value)}" for name, value in variables]
    lines.append("exec " + " ".join(quote(word) for word in words))
    return "\n".join(lines) + "\n"


def unpack(source: Path, target: Path, user: pwd.struct_passwd) -> None:
    """Unpack as the build user; tar itself drops leading slashes and refuses members with `..`."""
    with source.open("rb") as handle:
        subprocess.run(
            ["tar", "--extract", "--no-same-owner", "--directory", str(target)],
            stdin=handle,
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=[],
            check=True,
        )


def pack(folder: Path, target: Path) -> None:
    """Pack folder so that the same content gives the same bytes; root owns all, nobody else may write."""

    def normal(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = 0
        info.uname = info.gname = "root"
        info.mtime = 0
        info.mode = 0o755 if info.isdir() or info.mode & 0o100 else 0o644
        return info

    with (
        target.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0, compresslevel=6) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        archive.add(folder, arcname=".", filter=normal)


def status(archive: Path) -> dict[str, Any]:
    """Whether the archive is there and is what was built, and the names of all that are there."""
    built = sorted(path.name[: -len(".tar.gz")] for path in archive.parent.glob("[!.]*.tar.gz"))
    note = archive.with_name(archive.name + ".sha256")
    if archive.is_file() and note.is_file():
        expected = note.read_text(encoding="ascii").split()[0]
        if files.sha256(archive) == expected:
            return {"present": True, "checksum": f"sha256:{expected}", "built": built}
    return {"present": False, "checksum": "", "built": built}


@contextlib.contextmanager
def alone(archive: Path) -> Iterator[None]:
    """Of several builds of one name, one at a time."""
    with archive.with_name(f".{archive.name}.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield


def prune(releases: Path, keep: int, needed: set[str]) -> None:
    """Keep the newest archives, and those of the needed versions however old: they count towards keep."""
    found = sorted(releases.glob("*.tar.gz"), key=lambda path: path.stat().st_mtime, reverse=True)
    others = [path for path in found if path.name.removesuffix(".tar.gz") not in needed]
    for archive in others[max(keep - (len(found) - len(others)), 0) :]:
        archive.with_name(archive.name + ".sha256").unlink(missing_ok=True)
        archive.unlink()


def install_modules(folder: Path, scratch: Path, user: pwd.struct_passwd, options: argparse.Namespace) -> None:
    """npm ci, as the build user: packages' own scripts are other people's code."""
    home = scratch / "home"
    home.mkdir()
    environment = {
        "HOME": str(home),
        "PATH": f"{options.node}/bin:/usr/local/bin:/usr/bin:/bin",
        "npm_config_cache": str(home / ".npm"),
        "npm_config_update_notifier": "false",
        "npm_config_audit": "false",
        "npm_config_unsafe_perm": "false",
    }
    if Path(options.ca_file).is_file():
        environment |= {"NODE_EXTRA_CA_CERTS": options.ca_file, "npm_config_cafile": options.ca_file}
    if Path("/etc/npmrc").is_file():
        # Copied, since it may hold a token that only root can read.
        shutil.copyfile("/etc/npmrc", home / ".npmrc")
        (home / ".npmrc").chmod(0o600)
    for path in (home, *home.iterdir()):
        os.chown(path, user.pw_uid, user.pw_gid)
    result = subprocess.run(
        [f"{options.node}/bin/node", options.npm, "ci", "--production", "--no-progress"],
        cwd=folder,
        env=environment,
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if result.returncode:
        raise BuildError(f"npm ci ended with status {result.returncode}:\n{result.stdout[-4000:]}")


def build(options: argparse.Namespace) -> dict[str, Any]:
    archive: Path = options.releases / f"{options.version}.tar.gz"
    user = pwd.getpwnam(options.user)
    scratch = Path(tempfile.mkdtemp(prefix="build-", dir=options.scratch))
    partial = archive.with_name(f".{archive.name}.{os.getpid()}")
    try:
        folder = scratch / "release"
        folder.mkdir()
        for path in (scratch, folder):
            os.chown(path, user.pw_uid, user.pw_gid)
        unpack(options.source, folder, user)
        if not (folder / "package.json").is_file():
            raise BuildError("the source holds no package.json at its top")
        if not any((folder / name).is_file() for name in ("package-lock.json", "npm-shrinkwrap.json")):
            raise BuildError(
                "the source holds no package-lock.json: run `npm install` and commit it, "
                "so that every build has the same modules"
            )
        package = json.loads((folder / "package.json").read_text(encoding="utf-8"))
        script = start_script(package, (folder / "server.js").is_file())
        install_modules(folder, scratch, user, options)
        start = folder / ".phoenix-start"
        start.unlink(missing_ok=True)
        start.write_text(script, encoding="utf-8")
        start.chmod(0o755)
        pack(folder, partial)
        checksum = files.sha256(partial)
        partial.chmod(0o644)
        partial.rename(archive)
        archive.with_name(archive.name + ".sha256").write_text(f"{checksum}  {archive.name}\n", encoding="ascii")
    finally:
        partial.unlink(missing_ok=True)
        shutil.rmtree(scratch, ignore_errors=True)
    prune(options.releases, options.keep, {options.version, options.serving})
    return {"present": True, "checksum": f"sha256:{checksum}"}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("status", "build"))
    parser.add_argument("--version", required=True)
    parser.add_argument("--releases", type=Path, required=True)
    parser.add_argument("--scratch", type=Path)
    parser.add_argument("--source", type=Path)
    parser.add_argument("--user", default="phoenix-build")
    parser.add_argument("--node", default="/opt/nodejs/current")
    parser.add_argument("--npm", default="/opt/npm/current/bin/npm-cli.js")
    parser.add_argument("--ca-file", default="/etc/ssl/certs/ca-certificates.crt")
    parser.add_argument("--keep", type=int, default=5)
    parser.add_argument("--serving", default="", help="version that is never pruned")
    options = parser.parse_args(arguments)
    try:
        archive = options.releases / f"{options.version}.tar.gz"
        answer = status(archive)
        if options.action == "build":
            with alone(archive):
                answer = status(archive)  # another run may have built it meanwhile
                answer = answer if answer["present"] else build(options)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(answer))
    return 0
