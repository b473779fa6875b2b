"""What the versions of Node.js and npm rule out: refusals before a build, and warnings after it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phoenix.build.sandbox import Sandbox, SandboxError
from phoenix.build.start import BuildError

MAX_RANGES = 1000
MAX_RANGE = 200  # characters
# npm's own reading of versions, by the Node.js that will run the application.
_ASK = """
const [, npm, ...ranges] = process.argv;
const semver = require(npm + '/node_modules/semver');
const excluded = ranges.filter(one => semver.validRange(one, true) && !semver.satisfies(process.version, one, true));
console.log(JSON.stringify({ node: process.version, npm: require(npm + '/package.json').version, excluded }));
"""
# The first npm that reads a lock file of version 3, and the first Node.js that loads ES modules without an option.
LOCK_3 = (7,)
MODULES = (12, 17)


@dataclass(frozen=True)
class Versions:
    """Of Node.js and npm, and which of the ranges that were asked about exclude this Node.js."""

    node: str
    npm: str
    excluded: tuple[str, ...] = ()


def ask(sandbox: Sandbox, folder: Path, node: str, npm_cli: str, ranges: Iterable[str] = ()) -> Versions:
    """Ask npm's semver; folder: where the command runs.

    Raises:
        BuildError: npm does not run on this Node.js.
    """
    usable = sorted({one for one in ranges if one and len(one) <= MAX_RANGE and "\0" not in one})[:MAX_RANGES]
    words = [f"{node}/bin/node", "-e", _ASK, "--", str(Path(npm_cli).parents[1]), *usable]
    try:
        with sandbox.stream(words, folder=folder) as output:
            answer = json.loads(output.read(1 << 20) or "{}")
    except (SandboxError, ValueError) as error:
        raise BuildError(
            f"npm does not run on this Node.js: {error}\nSet release_npm_version to one that does (6 for Node.js 8)"
        ) from error
    return Versions(answer.get("node", ""), answer.get("npm", ""), tuple(answer.get("excluded", ())))


def numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version: v8.11.1 is (8, 11, 1)."""
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("-")[0])[:3])


def engine(package: Mapping[str, Any]) -> str:
    """The versions of Node.js that a package states; "" where it states none."""
    engines = package.get("engines")
    found = engines.get("node") if isinstance(engines, Mapping) else ""
    return found if isinstance(found, str) else ""


def refuse(package: Mapping[str, Any], lock: str, command: str, seen: Versions, engines: bool) -> None:
    """Refuse what can't work. lock: the beginning of the lock file; engines: whether package.json's engines count.

    Raises:
        BuildError: with the reason and the way out.
    """
    version = re.search(r'"lockfileVersion"\s*:\s*(\d+)', lock)
    if version and int(version[1]) >= 3 and numbers(seen.npm) < LOCK_3:
        raise BuildError(
            f"the lock file has lockfileVersion {version[1]}, which npm {seen.npm} can't read. Write it with "
            "`npm install --lockfile-version 2` (or 1) and commit it, or set release_npm_version to 7 or later, "
            "on a Node.js that runs it"
        )
    if engines and engine(package) in seen.excluded:
        raise BuildError(
            f"package.json: engines.node {engine(package)!r} excludes Node.js {seen.node}. Set nodejs_version to "
            "one of nodejs_archives that it allows, correct engines, or set "
            "release_check_engines to false"
        )
    loader = re.search(r"(^|\s)(-r|--require|--experimental-modules|--loader)\b", command)
    module = package.get("type") == "module" or re.search(r"\.mjs(\s|$)", command)
    if module and not loader and numbers(seen.node) < MODULES:
        raise BuildError(
            f"the application is an ES module ({'type' if package.get('type') == 'module' else command!r} in "
            f"package.json), which Node.js {seen.node} does not load. Set nodejs_version to 12.17 or "
            "later, with its archive in nodejs_archives, with release_npm_version to an npm that runs on it, or "
            "translate it to CommonJS when it is built"
        )


def refuse_variables(settings: str, known: Iterable[str]) -> None:
    """Refuse an application's .npmrc that needs a variable which the build does not have.

    Raises:
        BuildError: npm would stop, or the line would replace the credential that it is given.
    """
    missing = sorted(set(re.findall(r"\$\{(\w+)\}", settings)) - set(known))
    if missing:
        raise BuildError(
            f".npmrc uses ${{{missing[0]}}}, which the build does not have. Remove that line from the application's "
            ".npmrc and put what it says into release_npmrc, which the build alone reads; or, if it is no secret, "
            "give the variable in release_environment"
        )


def warnings(modules: Mapping[str, Mapping[str, Any]], seen: Versions) -> list[str]:
    """Warn of modules that state that they do not run on this Node.js. modules: package.json by name."""
    found = [
        f"{name} {package.get('version', '')} ({engine(package)})"
        for name, package in sorted(modules.items())
        if engine(package) in seen.excluded
    ]
    return [f"by their own word these modules do not run on Node.js {seen.node}: {', '.join(found)}"] if found else []


def resolved(package: Mapping[str, Any], modules: Mapping[str, Mapping[str, Any]]) -> str:
    """The versions that the application's own dependencies got, for people."""
    names = [name for name in package.get("dependencies") or {} if name in modules]
    return ", ".join(f"{name} {modules[name].get('version', '?')}" for name in sorted(names))
