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
import shutil
import stat
import sys
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from phoenix.build import npm, versions
from phoenix.build.sandbox import Sandbox, SandboxError, credential
from phoenix.build.start import BuildError, command_of, refuse_missing, start_script
from phoenix.common import files
from phoenix.instances import releases

# What Phoenix adds: the program that systemd starts, and the folder of the Node.js that the release was built for.
START, NODE = ".phoenix-start", ".phoenix-node"
# What hosts write into an unpacked release, and no archive may bring.
HOSTS_OWN = (releases.MARK, releases.CHECKSUM)
# Of the modules that the application itself can name: their package.json in a stream of the folder.
_MODULE = re.compile(r"\./node_modules/((?:@[^/]+/)?[^/@][^/]*)/package\.json")
# The folder of each submodule, in .gitmodules.
_SUBMODULE = re.compile(r'^\s*path\s*=\s*"?(.+?)"?\s*$', re.MULTILINE)
# How a file of Git LFS begins where its content was not fetched, and below how many bytes it stays.
_POINTER = b"version https://git-lfs.github.com/spec/"
POINTER_SIZE = 1024
# npm 6 and earlier open files in a mode that Python 3.11 no longer has: gyp, by which native modules are compiled.
PYTHON_SHIM = '''"""Let gyp, which asks for universal newlines (mode U), run on a Python that has no other kind."""
import builtins
import functools

_open = builtins.open


@functools.wraps(_open)
def tolerant(file, mode="r", *others, **options):
    return _open(file, mode.replace("U", "") if isinstance(mode, str) else mode, *others, **options)


builtins.open = tolerant
'''
LOCK = Path("/run/phoenix-build.lock")
# npm's settings: the inventory's, or else those of the host.
SETTINGS = (Path("/etc/phoenix/npmrc"), Path("/etc/npmrc"))
DEPLOY_KEY, KNOWN_HOSTS = Path("/etc/phoenix/deploy-key"), Path("/etc/phoenix/deploy-known-hosts")
MAX_PACKAGE = 1 << 20  # bytes of package.json
LOCK_HEAD = 4096  # bytes of a lock file, which begins with its version


@dataclass(frozen=True)
class Packed:
    """What a release holds: paths of its files and of its links, and package.json of its modules by their names."""

    files: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)
    modules: dict[str, dict[str, Any]] = field(default_factory=dict)

    def note(self, member: tarfile.TarInfo, content: bytes) -> None:
        name = member.name.removeprefix("./")
        (self.links if member.issym() else self.files).add(name)
        if content:
            with contextlib.suppress(ValueError):
                package = json.loads(content)
                if isinstance(package, dict) and (found := _MODULE.fullmatch(member.name)):
                    self.modules[found[1]] = package


def repack(received: IO[bytes], target: Path, own: Mapping[str, str]) -> Packed:
    """Pack what an untrusted tar stream holds, and Phoenix's own files, so that the same content gives the same bytes.

    Root owns all, and only root may write. Sockets, pipes and devices are left out, and so is what has a name of
    Phoenix's own.
    """

    def normal(name: str, kind: bytes, executable: bool) -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.type = kind
        info.uname = info.gname = "root"
        info.mode = 0o755 if executable else 0o644
        return info

    packed = Packed()
    with (
        target.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0, compresslevel=6) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
        tarfile.open(fileobj=received, mode="r|") as source,
    ):
        for member in source:
            if Path(member.name).parts[:1] in {(name,) for name in (*own, *HOSTS_OWN)} or not (
                member.isreg() or member.isdir() or member.issym() or member.islnk()
            ):
                continue
            info = normal(member.name, member.type, member.isdir() or bool(member.mode & 0o100))
            info.linkname = member.linkname
            if member.isreg():
                info.type = tarfile.REGTYPE
                info.size = member.size
            content = source.extractfile(member) if member.isreg() else None
            data = b""
            if content and member.size <= MAX_PACKAGE and _MODULE.fullmatch(member.name):
                data = content.read()
                content = io.BytesIO(data)
            archive.addfile(info, content)
            packed.note(member, data)
        for name, text in own.items():
            info = normal(f"./{name}", tarfile.REGTYPE, name == START)
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return packed


def status(archive: Path) -> dict[str, Any]:
    """Whether the archive is there and matches its checksum, and the names of all archives that are there."""
    built = sorted(path.name[: -len(".tar.gz")] for path in archive.parent.glob("[!.]*.tar.gz"))
    note = archive.with_name(archive.name + ".sha256")
    if archive.is_file() and note.is_file():
        expected = note.read_text(encoding="ascii").split()[0]
        if files.sha256(archive) == expected:
            return {"present": True, "checksum": f"sha256:{expected}", "built": built}
    return {"present": False, "checksum": "", "built": built}


def refuse_another(archive: Path, checksum: str) -> None:
    """Refuse other content under the name of a release that was built before, though its archive is gone or damaged.

    Raises:
        BuildError: it is another.
    """
    note = archive.with_name(archive.name + ".sha256")
    former = note.read_text(encoding="ascii").split()[:1] if note.is_file() else []
    if former not in ([], [checksum]):
        version = archive.name.removesuffix(".tar.gz")
        raise BuildError(
            f"{version} was built before, and its content was another (sha256:{former[0]}, now sha256:{checksum}): a "
            "name means one content. It changes with Node.js and npm, where there is no lock file, and where a module "
            "is compiled. Make a new commit, give the source another version in package.json, or build it under a name "
            "of its own (phoenix_build_as)"
        )


def prune(releases: Path, keep: int, needed: set[str]) -> None:
    """Keep the newest archives, and those of the needed versions however old: they count towards keep.

    The checksums of all stay, by which a name has one content for ever.
    """
    found = sorted(releases.glob("*.tar.gz"), key=lambda path: path.stat().st_mtime, reverse=True)
    others = [path for path in found if path.name.removesuffix(".tar.gz") not in needed]
    for archive in others[max(keep - (len(found) - len(others)), 0) :]:
        archive.unlink()


@dataclass(frozen=True)
class Source:
    """The unpacked source's instructions for its build. lock: the beginning of its lock file; settings: its .npmrc."""

    package: dict[str, Any]
    command: str
    start: str
    lock: str
    settings: str

    @property
    def locked(self) -> bool:
        return bool(self.lock)

    @classmethod
    def read(cls, folder: Path, node: str = "") -> Source:
        """Raises BuildError for a source that can't be built or started."""
        text = _read(folder / "package.json", MAX_PACKAGE + 1)
        if text is None:
            raise BuildError("the source holds no package.json at its top: name the application's own folder")
        try:
            package = json.loads(text) if len(text) <= MAX_PACKAGE else None
        except ValueError as error:
            raise BuildError(f"package.json is not valid JSON: {error}") from error
        if not isinstance(package, dict):
            raise BuildError(f"package.json has to hold one object, in {MAX_PACKAGE >> 20} MB at most")
        has_server_js = _exists(folder / "server.js")
        locks = (_read(folder / name, LOCK_HEAD) for name in npm.LOCKS)
        return cls(
            package,
            command_of(package, has_server_js),
            start_script(package, has_server_js, node),
            next((lock.decode(errors="replace") for lock in locks if lock), ""),
            (_read(folder / ".npmrc", MAX_PACKAGE) or b"").decode(errors="replace"),
        )


def _read(path: Path, size: int) -> bytes | None:
    """The first bytes of a plain file, which no link leads to; None where there is no such file.

    Raises:
        BuildError: it is something else.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BuildError(f"{path.name} can't be read ({error}): it has to be a plain file") from error
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise BuildError(f"{path.name} has to be a plain file")
        return file.read(size)


def _exists(path: Path) -> bool:
    """Whether there is such a file, or a link, which is not followed."""
    return os.path.lexists(path)


def refuse_left_out(source: Path) -> None:
    """Refuse a source without what Git keeps elsewhere: its submodules, and files of Git LFS. Raises BuildError.

    Of submodules that are not checked out it has empty folders, of files of Git LFS small texts that name the content.
    """
    with tarfile.open(source) as archive:

        def begin(member: tarfile.TarInfo, size: int) -> bytes:
            file = archive.extractfile(member) if member.isreg() else None
            return file.read(size) if file else b""

        held = {member.name: member for member in archive if not member.isdir()}
        text = begin(held[".gitmodules"], MAX_PACKAGE).decode(errors="replace") if ".gitmodules" in held else ""
        small = [member for member in held.values() if len(_POINTER) < member.size < POINTER_SIZE]
        pointers = sorted(member.name for member in small if begin(member, len(_POINTER)) == _POINTER)
    empty = [path for path in _SUBMODULE.findall(text) if not any(name.startswith(f"{path}/") for name in held)]
    if empty:
        raise BuildError(
            f".gitmodules names the submodules {', '.join(empty)}, which the source does not hold. Let phoenix_source "
            "be the Git URL, or a folder in which they are checked out (git submodule update --init --recursive). "
            "A pipeline fetches none: commit their files, or make them dependencies in package.json"
        )
    if pointers:
        more = f" and {len(pointers) - 5} more" if len(pointers) > 5 else ""
        raise BuildError(
            f"{', '.join(pointers[:5])}{more}: the source holds pointers of Git LFS in place of these files. Let "
            "phoenix_source be a folder that holds their content (git lfs pull), or keep them in Git itself "
            "(git lfs untrack PATTERN, git add --renormalize ., and a commit)"
        )


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
        "PYTHONPATH": str(scratch / "python"),
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
    (scratch / "python").mkdir()
    (scratch / "python" / "sitecustomize.py").write_text(PYTHON_SHIM, encoding="ascii")
    variables = environment(options, scratch, os.environ)
    versions.refuse_variables(source.settings, variables)
    credentials = npm.has_secrets(settings)
    key = options.deploy_key.is_file()
    if key:
        (scratch / "known_hosts").write_bytes(options.known_hosts.read_bytes())
    for step in npm.steps(source.package, source.locked, credentials, options.build_script or npm.BUILD, key):
        words = [f"{options.node}/bin/node", options.npm, *step.words]
        own: dict[str, str] = dict(step.environment)
        secrets: dict[str, Path] = {}
        if step.credential and credentials:
            secrets["npmrc"], own["npm_config_userconfig"] = options.npmrc, credential("npmrc")
        if step.credential and key:
            secrets["key"], own["GIT_SSH_COMMAND"] = options.deploy_key, ssh(credential("key"), scratch / "known_hosts")
        try:
            sandbox.run(words, variables | own, folder=scratch / "release", secrets=secrets)
        except SandboxError as error:
            raise BuildError(f"npm {' '.join(step.words)} {error}{_hint(str(error), options)}") from error


def ssh(key: str, known_hosts: Path) -> str:
    """Git's command for a repository over SSH: with this key and these hosts, whatever the user's own settings are."""
    options = (
        f"UserKnownHostsFile={known_hosts}", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "BatchMode=yes"
    )  # fmt: skip
    return " ".join(["ssh", "-F", "/dev/null", "-i", key, *(f"-o {one}" for one in options)])


def _hint(output: str, options: argparse.Namespace) -> str:
    """The way out where the output of npm shows a known reason."""
    if re.search(r"Host key verification failed|Permission denied \(publickey", output):
        return (
            "\nA dependency comes from a Git repository over SSH: set release_deploy_key to a key that may read it, "
            "and release_known_hosts to the lines of its host, as ssh-keyscan prints them"
        )
    if re.search(r"gyp ERR! find Python|(make|g\+\+|cc): (not found|No such file)|not found: make", output):
        return "\nA native module is compiled: set release_build_packages to [make, g++, python3]"
    if "gyp ERR!" in output and not Path(options.node, "include/node/node.h").is_file():
        return (
            f"\nA native module is compiled, and the archive of Node.js holds no headers ({options.node}/include/node):"
            " node-gyp downloads them where it can reach nodejs.org. Take the vendor's own archive, which has them"
        )
    return ""


def check(source: Source, scratch: Path, sandbox: Sandbox, options: argparse.Namespace) -> None:
    """Refuse a source that can't be built or started, before any of its scripts runs. Raises BuildError."""
    scripts = source.package.get("scripts") or {}
    if options.build_script and not scripts.get(options.build_script):
        raise BuildError(
            f"release_build_script = {options.build_script!r}, but package.json has no such script: it has "
            f"{', '.join(scripts) or 'none'}. Name one of these, or leave release_build_script empty"
        )
    seen = versions.ask(sandbox, scratch, options.node, options.npm, [versions.engine(source.package)])
    versions.refuse(source.package, source.lock, source.command, seen, options.check_engines)


def judge(source: Source, packed: Packed, scratch: Path, sandbox: Sandbox, options: argparse.Namespace) -> list[str]:
    """Refuse a release that could not start, and return the warnings about one that can. Raises BuildError."""
    refuse_missing(source.command, packed.files, packed.links)
    modules = packed.modules
    seen = versions.ask(sandbox, scratch, options.node, options.npm, map(versions.engine, modules.values()))
    return npm.warnings(source.locked, versions.resolved(source.package, modules)) + versions.warnings(modules, seen)


def build(options: argparse.Namespace) -> dict[str, Any]:
    archive: Path = options.releases / f"{options.version}.tar.gz"
    user = pwd.getpwnam(options.user)
    # One path for every build, as modules may note it: the same source is to give the same release.
    scratch: Path = options.scratch / "build-release"
    partial = archive.with_name(f".{archive.name}.{os.getpid()}")
    programs = sorted({Path(options.node).parent, Path(options.npm).parents[2]})
    node = os.path.realpath(options.node)
    sandbox = Sandbox(options.user, scratch, programs, options.timeout, options.memory)
    folder = scratch / "release"
    try:
        sandbox.end()
        for left in options.scratch.glob("build-*"):  # by builds that were interrupted
            shutil.rmtree(left, ignore_errors=True)
        scratch.mkdir()
        scratch.chmod(0o755)  # root's: what is in it can't be renamed by the build user
        for path in (scratch / "home", folder):
            path.mkdir()
            os.chown(path, user.pw_uid, user.pw_gid)
        try:
            with options.source.open("rb") as handle:
                sandbox.run(["tar", "--extract", "--no-same-owner"], {}, folder=folder, stdin=handle)
            refuse_left_out(options.source)
        except (SandboxError, tarfile.TarError) as error:
            raise BuildError(f"the source can't be unpacked: tar {error}") from error
        source = Source.read(folder, node)
        check(source, scratch, sandbox, options)
        make(source, scratch, sandbox, options)
        try:
            with sandbox.stream(["tar", "--create", "--sort=name", "."], folder=folder) as stream:
                packed = repack(stream, partial, {START: source.start, NODE: f"{node}\n"})
        except (SandboxError, tarfile.TarError) as error:
            raise BuildError(f"the release can't be packed: {error}") from error
        warnings = judge(source, packed, scratch, sandbox, options)
        checksum = files.sha256(partial)
        refuse_another(archive, checksum)
        partial.chmod(0o644)
        partial.rename(archive)
        files.replace(archive.with_name(archive.name + ".sha256"), f"{checksum}  {archive.name}\n", durable=True)
    finally:
        partial.unlink(missing_ok=True)
        shutil.rmtree(scratch, ignore_errors=True)
    prune(options.releases, options.keep, {options.version, options.serving})
    return {"present": True, "checksum": f"sha256:{checksum}", "warnings": warnings}


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
    parser.add_argument("--npmrc", type=Path, help="npm's settings, which may hold secrets")
    parser.add_argument("--deploy-key", type=Path, default=DEPLOY_KEY, help="SSH key for Git, if there is one")
    parser.add_argument("--known-hosts", type=Path, default=KNOWN_HOSTS, help="hosts that it is used for")
    parser.add_argument("--build-script", default="", help="script of package.json in place of `build`")
    parser.add_argument("--ignore-engines", dest="check_engines", action="store_false", help="build whatever it states")
    parser.add_argument("--timeout", type=int, default=900, help="seconds for each of npm's commands")
    parser.add_argument("--memory", default="2G", help="limit of the build's memory, as systemd's MemoryMax")
    parser.add_argument(
        "--pass-environment", action="append", default=[], metavar="NAME", help="variable for the build"
    )
    parser.add_argument("--keep", type=int, default=5)
    parser.add_argument("--serving", default="", help="version that is never pruned")
    options = parser.parse_args(arguments)
    options.npmrc = options.npmrc or next((path for path in SETTINGS if path.is_file()), SETTINGS[-1])
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
