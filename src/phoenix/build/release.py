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
import json
import os
import pwd
import re
import shutil
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from phoenix.build import archive, npm, versions
from phoenix.build.archive import Packed
from phoenix.build.package import Source, refuse_left_out
from phoenix.build.sandbox import Sandbox, SandboxError, credential
from phoenix.build.start import BuildError, refuse_missing
from phoenix.common import files

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
    target: Path = options.releases / f"{options.version}.tar.gz"
    user = pwd.getpwnam(options.user)
    # One path for every build, as modules may note it: the same source is to give the same release.
    scratch: Path = options.scratch / "build-release"
    partial = target.with_name(f".{target.name}.{os.getpid()}")
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
                packed = archive.repack(stream, partial, {archive.START: source.start, archive.NODE: f"{node}\n"})
        except (SandboxError, tarfile.TarError) as error:
            raise BuildError(f"the release can't be packed: {error}") from error
        warnings = judge(source, packed, scratch, sandbox, options)
        checksum = files.sha256(partial)
        archive.refuse_another(target, checksum)
        partial.chmod(0o644)
        partial.rename(target)
        files.replace(target.with_name(target.name + ".sha256"), f"{checksum}  {target.name}\n", durable=True)
    finally:
        partial.unlink(missing_ok=True)
        shutil.rmtree(scratch, ignore_errors=True)
    archive.prune(options.releases, options.keep, {options.version, options.serving})
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
        target = options.releases / f"{options.version}.tar.gz"
        answer = archive.status(target)
        if options.action == "build":
            with alone():
                answer = archive.status(target)  # another run may have built it meanwhile
                answer = answer if answer["present"] else build(options)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(answer))
    return 0
