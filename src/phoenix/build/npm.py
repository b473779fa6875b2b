"""npm's commands for a release: decided here, run by phoenix.build.release."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LOCKS = ("npm-shrinkwrap.json", "package-lock.json")
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
# The application's own scripts that npm, or Phoenix after it, runs: they may need the devDependencies.
INSTALL_SCRIPTS = ("preinstall", "install", "postinstall", "prepublish", "prepare")
BUILD = "build"
# Whatever the application's .npmrc sets, a command that knows a credential executes no program of its choice.
NO_SCRIPTS = {
    "npm_config_ignore_scripts": "true",
    "npm_config_onload_script": "",
    "npm_config_git": "/usr/bin/git",
    "npm_config_package_lock": "true",
}


@dataclass(frozen=True)
class Step:
    """One of npm's commands. credential: it runs no script, and may read the registry's credentials."""

    words: tuple[str, ...]
    credential: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


def steps(
    package: Mapping[str, Any], locked: bool, credential: bool, script: str = BUILD, git: bool = False
) -> list[Step]:
    """The commands that make a release's modules, in their order. script: the build's, run where it is declared.

    Where the registry asks for a credential, everything is fetched into npm's cache first, and installed out of it.
    With a key for Git's repositories (git) it is installed then, for npm does not take those from its cache; the
    scripts of the packages, and after them the application's, run without the key.
    """
    scripts = package.get("scripts") or {}
    needing = (*INSTALL_SCRIPTS, script)
    development = any(scripts.get(name) for name in needing) and bool(package.get("devDependencies"))
    install = ("ci",) if development else ("ci", "--production")
    found = []
    if not locked:
        found.append(Step(("install", "--package-lock-only"), True, NO_SCRIPTS))
    if credential or git:
        found.append(Step(install, True, NO_SCRIPTS))
    if git:
        found.append(Step(("rebuild",)))
        found += [Step(("run", name)) for name in INSTALL_SCRIPTS if scripts.get(name)]
    else:
        found.append(Step((*install, "--prefer-offline") if credential else install))
    if scripts.get(script):
        found.append(Step(("run", script)))
    if development:
        found.append(Step(("prune", "--production"), False, {"npm_config_ignore_scripts": "true"}))
    return found


def warnings(locked: bool, resolved: str) -> list[str]:
    """Warnings about a release that was built. resolved: the versions that its own dependencies got."""
    if locked or not resolved:
        return []
    return [
        "the source holds no package-lock.json (or npm-shrinkwrap.json; those of yarn and pnpm are not read): npm "
        f"resolved the versions now ({resolved}), and another build may get others. The release's own "
        "package-lock.json records all of them: commit that file, or run `npm install` and commit what it writes"
    ]


def _secret(line: str) -> bool:
    """Whether a line of npm's settings may hold a credential: a registry's own key, one of the old global ones, or a
    URL with a user's name."""
    name, _, value = (part.strip() for part in line.partition("="))
    return (
        name.startswith(("//", "_"))
        or name.lower() in {"username", "password", "email", "key", "cert", "keyfile", "certfile", "otp", "token"}
        or re.search(r"//[^/\s]*@", value) is not None
    )


def has_secrets(settings: str) -> bool:
    """Whether npm's settings (the text of an npmrc) hold a credential."""
    return without_secrets(settings) != settings


def without_secrets(settings: str) -> str:
    """npm's settings for those commands that run packages' scripts."""
    return "".join(line for line in settings.splitlines(keepends=True) if not _secret(line))
