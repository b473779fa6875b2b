"""Build a release of a Node.js application: a checksummed archive that runs without a package registry.

status: prints {"present": bool, "checksum": "sha256:...", "built": [name of each release that is there]} of a release.
build:  unpacks the source, installs the modules and runs package.json's `build` in a sandbox, removes what only the
        build needed, packs everything with .phoenix-start, keeps the newest releases, and prints the same with
        "warnings": [str].

Root neither reads through nor writes into the folder that packages' scripts could write to: what it packs is a stream
that the build user sends once nothing of the build runs any more.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import gzip
import io
import json
import os
import pwd
import re
import shlex
import shutil
import stat
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from phoenix.build import npm
from phoenix.build.sandbox import Sandbox, SandboxError, credential
from phoenix.common import files

START = ".phoenix-start"
LOCK = Path("/run/phoenix-build.lock")
MAX_PACKAGE = 1 << 20  # bytes of package.json
_ASSIGNMENT = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*=")
_VARIABLE = re.compile(r"\$(?:[A-Za-z_][A-Za-z0-9_]*|\{[A-Za-z_][A-Za-z0-9_]*\})")
_OPERATORS = frozenset(";&|<>()")
_BUILTINS = frozenset(
    {"cd", "export", "source", ".", "exec", "set", "ulimit", "umask", "if", "for", "while", "npm", "npx", "yarn"}
)


# Name and value's owner: assigned in npm start they would take precedence, and every instance would use the same.
_RESERVED = {
    "PORT": "systemd gives each instance its own port",
    "DB_CONNECTION_STRING": "the inventory's mongodb_uri is its value",
}
_LAUNCHERS = frozenset({"env", "cross-env", "cross-env-shell"})
_DAEMONS = frozenset({"pm2", "forever"})


class BuildError(Exception):
    """An error that the developer or the operator can fix; its text states how."""


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
    _refuse_assignments(command, [*variables, *_launched(words)[0]])
    program = _launched(words)[1]
    if program and Path(program[0]).name in _DAEMONS:
        raise BuildError(
            f"package.json: scripts.start {command!r} runs {program[0]}, which starts the application in the "
            "background and ends: systemd would start it over and over. systemd itself restarts instances, and Phoenix "
            "starts as many as are needed: name the program that it should run, for example: node server.js"
        )
    return variables, words


def _launched(words: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """The assignments of `env` or `cross-env`, and the words that it runs; without them none, and the words."""
    if not words or Path(words[0]).name not in _LAUNCHERS:
        return [], words
    count = next((index for index, word in enumerate(words[1:], 1) if not _ASSIGNMENT.match(word)), len(words))
    return [(name, value) for name, _, value in (word.partition("=") for word in words[1:count])], words[count:]


def _refuse_assignments(command: str, variables: list[tuple[str, str]]) -> None:
    for name, value in variables:
        if name in _RESERVED and value not in (f"${name}", f"${{{name}}}"):
            raise BuildError(
                f"package.json: scripts.start {command!r} sets {name}, which would replace the value that the instance "
                f"is given: {_RESERVED[name]}. Leave {name} out; for development, set it in another script"
            )


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


def repack(received: IO[bytes], target: Path, start: str) -> None:
    """Pack what an untrusted tar stream holds, and the start script, so that the same content gives the same bytes.

    Root owns all, and only root may write. Sockets, pipes and devices are left out, and so is another .phoenix-start.
    """

    def normal(name: str, kind: bytes, executable: bool) -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.type = kind
        info.uname = info.gname = "root"
        info.mode = 0o755 if executable else 0o644
        return info

    with (
        target.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0, compresslevel=6) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
        tarfile.open(fileobj=received, mode="r|") as source,
    ):
        for member in source:
            if Path(member.name).parts[:1] == (START,) or not (
                member.isreg() or member.isdir() or member.issym() or member.islnk()
            ):
                continue
            info = normal(member.name, member.type, member.isdir() or bool(member.mode & 0o100))
            info.linkname = member.linkname
            if member.isreg():
                info.type = tarfile.REGTYPE
                info.size = member.size
            archive.addfile(info, source.extractfile(member) if member.isreg() else None)
        info = normal(f"./{START}", tarfile.REGTYPE, True)
        info.size = len(start.encode())
        archive.addfile(info, io.BytesIO(start.encode()))


def status(archive: Path) -> dict[str, Any]:
    """Whether the archive is there and matches its checksum, and the names of all archives that are there."""
    built = sorted(path.name[: -len(".tar.gz")] for path in archive.parent.glob("[!.]*.tar.gz"))
    note = archive.with_name(archive.name + ".sha256")
    if archive.is_file() and note.is_file():
        expected = note.read_text(encoding="ascii").split()[0]
        if files.sha256(archive) == expected:
            return {"present": True, "checksum": f"sha256:{expected}", "built": built}
    return {"present": False, "checksum": "", "built": built}


def prune(releases: Path, keep: int, needed: set[str]) -> None:
    """Keep the newest archives, and those of the needed versions however old: they count towards keep."""
    found = sorted(releases.glob("*.tar.gz"), key=lambda path: path.stat().st_mtime, reverse=True)
    others = [path for path in found if path.name.removesuffix(".tar.gz") not in needed]
    for archive in others[max(keep - (len(found) - len(others)), 0) :]:
        archive.with_name(archive.name + ".sha256").unlink(missing_ok=True)
        archive.unlink()


@dataclass(frozen=True)
class Source:
    """The unpacked source's instructions for its build."""

    package: dict[str, Any]
    start: str
    locked: bool

    @classmethod
    def read(cls, folder: Path) -> Source:
        """Raises BuildError for a source that can't be built or started."""
        try:
            handle = os.open(folder / "package.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError as error:
            raise BuildError(
                "the source holds no package.json at its top: name the application's own folder"
            ) from error
        except OSError as error:
            raise BuildError(f"package.json can't be read ({error}): it has to be a plain file") from error
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise BuildError("package.json has to be a plain file")
            text = file.read(MAX_PACKAGE + 1)
        try:
            package = json.loads(text) if len(text) <= MAX_PACKAGE else None
        except ValueError as error:
            raise BuildError(f"package.json is not valid JSON: {error}") from error
        if not isinstance(package, dict):
            raise BuildError(f"package.json has to hold one object, in {MAX_PACKAGE >> 20} MB at most")
        return cls(
            package,
            start_script(package, _exists(folder / "server.js")),
            any(_exists(folder / name) for name in npm.LOCKS),
        )


def _exists(path: Path) -> bool:
    """Whether there is such a file, or a link, which is not followed."""
    return os.path.lexists(path)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One build at a time: all run as one user, who could otherwise reach into another's processes."""
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def environment(options: argparse.Namespace, scratch: Path, given: Mapping[str, str]) -> dict[str, str]:
    """The environment of npm and the scripts; `given` holds the operator's variables, by name."""
    found = {
        "HOME": str(scratch / "home"),
        "PATH": f"{options.node}/bin:/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "npm_config_userconfig": str(scratch / "npmrc"),
        "npm_config_cache": str(scratch / "home" / ".npm"),
        "npm_config_update_notifier": "false",
        "npm_config_audit": "false",
        "npm_config_fund": "false",
        "npm_config_progress": "false",
    }
    if Path(options.ca_file).is_file():
        found |= {"NODE_EXTRA_CA_CERTS": options.ca_file, "npm_config_cafile": options.ca_file}
    if Path(options.node, "include/node/node.h").is_file():
        found["npm_config_nodedir"] = str(options.node)  # the headers for native modules, which need no download then
    passed = [*npm.PROXIES, *options.pass_environment]
    return found | {name: given[name] for name in passed if name in given}


def make(source: Source, scratch: Path, sandbox: Sandbox, options: argparse.Namespace) -> None:
    """Install the modules and run the build's scripts, in the sandbox.

    npm's settings with the credentials of a registry are readable to those commands only that run no package's script.
    """
    settings = options.npmrc.read_text(encoding="utf-8") if options.npmrc.is_file() else ""
    (scratch / "npmrc").write_text(npm.without_secrets(settings), encoding="utf-8")
    variables = environment(options, scratch, os.environ)
    credentials = npm.has_secrets(settings)
    for step in npm.steps(source.package, source.locked, credentials):
        words = [f"{options.node}/bin/node", options.npm, *step.words]
        own: dict[str, str] = dict(step.environment)
        secret = None
        if step.credential and credentials:
            secret, own["npm_config_userconfig"] = options.npmrc, credential()
        try:
            sandbox.run(words, variables | own, folder=scratch / "release", secret=secret)
        except SandboxError as error:
            raise BuildError(f"npm {' '.join(step.words)} {error}") from error


def build(options: argparse.Namespace) -> dict[str, Any]:
    archive: Path = options.releases / f"{options.version}.tar.gz"
    user = pwd.getpwnam(options.user)
    scratch = Path(tempfile.mkdtemp(prefix="build-", dir=options.scratch))
    partial = archive.with_name(f".{archive.name}.{os.getpid()}")
    programs = sorted({Path(options.node).parent, Path(options.npm).parents[2]})
    sandbox = Sandbox(options.user, scratch, programs, options.timeout, options.memory)
    folder = scratch / "release"
    try:
        sandbox.end()
        for left in set(options.scratch.glob("build-*")) - {scratch}:  # by builds that were interrupted
            shutil.rmtree(left, ignore_errors=True)
        scratch.chmod(0o755)  # root's: what is in it can't be renamed by the build user
        for path in (scratch / "home", folder):
            path.mkdir()
            os.chown(path, user.pw_uid, user.pw_gid)
        try:
            with options.source.open("rb") as handle:
                sandbox.run(["tar", "--extract", "--no-same-owner"], {}, folder=folder, stdin=handle)
        except SandboxError as error:
            raise BuildError(f"the source can't be unpacked: tar {error}") from error
        source = Source.read(folder)
        make(source, scratch, sandbox, options)
        try:
            with sandbox.stream(["tar", "--create", "--sort=name", "."], folder=folder) as stream:
                repack(stream, partial, source.start)
        except (SandboxError, tarfile.TarError) as error:
            raise BuildError(f"the release can't be packed: {error}") from error
        checksum = files.sha256(partial)
        partial.chmod(0o644)
        partial.rename(archive)
        archive.with_name(archive.name + ".sha256").write_text(f"{checksum}  {archive.name}\n", encoding="ascii")
    finally:
        partial.unlink(missing_ok=True)
        shutil.rmtree(scratch, ignore_errors=True)
    prune(options.releases, options.keep, {options.version, options.serving})
    return {"present": True, "checksum": f"sha256:{checksum}", "warnings": npm.warnings(source.package, source.locked)}


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
    parser.add_argument("--npmrc", type=Path, default=Path("/etc/npmrc"), help="npm's settings, which may hold secrets")
    parser.add_argument("--timeout", type=int, default=900, help="seconds for each of npm's commands")
    parser.add_argument("--memory", default="2G", help="limit of the build's memory, as systemd's MemoryMax")
    parser.add_argument(
        "--pass-environment", action="append", default=[], metavar="NAME", help="variable for the build"
    )
    parser.add_argument("--keep", type=int, default=5)
    parser.add_argument("--serving", default="", help="version that is never pruned")
    options = parser.parse_args(arguments)
    try:
        archive = options.releases / f"{options.version}.tar.gz"
        answer = status(archive)
        if options.action == "build":
            with alone():
                answer = status(archive)  # another run may have built it meanwhile
                answer = answer if answer["present"] else build(options)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(answer))
    return 0
