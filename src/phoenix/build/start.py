"""npm start without npm: the script by which systemd starts an instance, made when a release is built."""

from __future__ import annotations

import json
import posixpath
import re
import shlex
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

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
# They restart the program when a file changes, and after a crash wait for that.
_WATCHERS = frozenset({"nodemon", "node-dev", "supervisor", "ts-node-dev", "tsnd"})
# What every version of npm gives the scripts that it runs, of package.json.
_PACKAGE = ("name", "version", "main", "config", "engines", "bin")
# Options of node that have a value of their own, and those that replace the file.
_VALUED = frozenset({"-r", "--require", "--import", "--loader", "--experimental-loader", "-C", "--conditions"})
_NO_FILE = frozenset({"-e", "--eval", "-p", "--print", "-pe", "-i", "--interactive", "-"})
SYSTEM = "/usr/bin:/bin"


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
    _refuse_program(command, _launched(words)[1])
    return variables, words


def _refuse_program(command: str, program: list[str]) -> None:
    name = Path(program[0]).name if program else ""
    if name in _DAEMONS:
        raise BuildError(
            f"package.json: scripts.start {command!r} runs {program[0]}, which starts the application in the "
            "background and ends: systemd would start it over and over. systemd itself restarts instances, and Phoenix "
            "starts as many as are needed: name the program that it should run, for example: node server.js"
        )
    if name in _WATCHERS:
        raise BuildError(
            f"package.json: scripts.start {command!r} runs {program[0]}, which after a crash waits until a file is "
            "changed: the instance would stay down. Keep it in a script for development, and name here the program "
            "that it should run, for example: node server.js"
        )


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


def package_variables(package: Mapping[str, Any], script: str) -> dict[str, str]:
    """The variables that npm sets from package.json for a script that it runs."""
    found = dict(_flattened("npm_package_", {key: package[key] for key in _PACKAGE if key in package}))
    return {**found, "npm_lifecycle_event": script}


def _flattened(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = re.sub(r"[^A-Za-z0-9_]", "_", prefix + key)
        if isinstance(value, Mapping):
            yield from _flattened(f"{name}_", value)
        elif isinstance(value, list):
            yield from _flattened(f"{name}_", {str(index): one for index, one in enumerate(value)})
        else:
            yield name, json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def command_of(package: Mapping[str, Any], has_server_js: bool) -> str:
    """npm start's command; npm runs server.js where there is none."""
    return (package.get("scripts") or {}).get("start") or ("node server.js" if has_server_js else "")


def path_line(node: str) -> str:
    """The shell's line that puts the release's programs first, and then the Node.js that it was built for, a folder."""
    return f'export PATH="$PWD/node_modules/.bin:{f"{node}/bin:" if node else ""}$PATH"'


def start_script(package: Mapping[str, Any], has_server_js: bool, node: str = "") -> str:
    """The text of .phoenix-start; the shell replaces itself by the program, with the Node.js in the folder `node`."""
    scripts = package.get("scripts") or {}
    for hook in ("prestart", "poststart"):
        if scripts.get(hook):
            raise BuildError(
                f"package.json: scripts.{hook} would be left out, since npm does not start the instances. "
                "Do it in prepare (run when the release is built), or in the program"
            )
    command = command_of(package, has_server_js)
    if not command:
        raise BuildError("package.json has no scripts.start, and there is no server.js: nothing to run")
    variables, words = parse_start(command)
    lines = [
        "#!/bin/sh",
        "# Made when the release was built, from npm start's command; systemd runs it in the release.",
    ]
    lines.append(path_line(node))
    lines += [f"export {name}={shlex.quote(value)}" for name, value in package_variables(package, "start").items()]
    lines += [f"export {name}={quote(value)}" for name, value in variables]
    lines.append("exec " + " ".join(quote(word) for word in words))
    return "\n".join(lines) + "\n"


def entry(words: list[str]) -> str:
    """The file that node is given, among the words of a command; "" where it can't be determined."""
    _, program = _launched(words)
    if not program or Path(program[0]).name != "node":
        return ""
    rest = iter(program[1:])
    for word in rest:
        if word in _NO_FILE:
            return ""
        if word in _VALUED:
            next(rest, None)
        elif not word.startswith("-"):
            return "" if "$" in word or word.startswith("/") else posixpath.normpath(word)
    return ""


def refuse_missing(command: str, files: Collection[str], links: Collection[str]) -> None:
    """Refuse a start whose program or file the release does not hold. Paths are relative to its top.

    Raises:
        BuildError: it would end at once, on every host.
    """
    _, words = parse_start(command)
    for word in dict.fromkeys([words[0], *_launched(words)[1][:1]]):
        if "$" in word or _is_there(word, files, links):
            continue
        raise BuildError(
            f"package.json: scripts.start {command!r} runs {word!r}, which the release does not hold: a program of a "
            "module that is listed in devDependencies is removed after the build, and global ones are not on the "
            "hosts. Move its module to dependencies, or name the program itself, for example: node server.js"
        )
    file = entry(words)
    if file and not any(_in_release(file + end, files, links) for end in ("", ".js", ".json", ".node", "/index.js")):
        raise BuildError(
            f"package.json: scripts.start {command!r} runs the file {file}, which the release does not hold. Where a "
            "script makes it, call that script `build`, or name it in release_build_script; where Git or npm ignores "
            "it, take it out of .gitignore or .npmignore"
        )


def _is_there(program: str, files: Collection[str], links: Collection[str]) -> bool:
    if "/" in program:
        return program.startswith("/") or _in_release(posixpath.normpath(program), files, links)
    return (
        program == "node"
        or _in_release(f"node_modules/.bin/{program}", files, links)
        or shutil.which(program, path=SYSTEM) is not None
    )


def _in_release(path: str, files: Collection[str], links: Collection[str]) -> bool:
    """Whether the release holds it. What a link leads to is not followed, and counts as there."""
    parents = [path[:index] for index, letter in enumerate(path) if letter == "/"]
    return path in files or any(one in links for one in [*parents, path])
