"""One command in a release's environment: with the user, the variables, the limits and the sandbox of its instances.

phoenixctl run [--release NAME] [--timeout SECONDS] [--lock TOKEN] COMMAND...

COMMAND is one of the shell's, in the release's folder. `npm run NAME` runs that script of package.json, with its `pre`
and `post` scripts, also where npm is not installed; with `--if-present`, a script that is not there is nothing to do.
PORT is 0: what serves would disturb no instance. One command at a time; a play's, which states its lock, is another
one, and ends when the next play comes to this host.
Exit status: the command's own; 1 where it took too long or could not be started.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from phoenix.build.start import package_variables, path_line
from phoenix.common import files, systemd
from phoenix.instances import paths, releases
from phoenix.state import turn

# A command by hand, and that of a play.
UNIT, PLAYS_UNIT = "phoenix-command", "phoenix-release-command"
# How soon a play's command ends after the next play has come, in seconds.
POLL_S = 0.5
TEMPLATE = Path("/etc/systemd/system/phoenix@.service")
# Where instances have configurations of their own: all of this host, and the accepted one.
CONFIGURATIONS = Path("/etc/phoenix/configurations")
CONFIGURATION = Path("/etc/phoenix/configuration")
# Of the instances' unit, what is not for a command. RemoveIPC would remove what the instances share among them.
NOT_TAKEN = (
    "Exec", "Type", "Restart", "WorkingDirectory", "SyslogIdentifier", "RemoveIPC", "WatchdogSec", "RuntimeMaxSec"
)  # fmt: skip
# A program with its arguments, and nothing that only a shell does.
PLAIN = re.compile(r"[A-Za-z0-9_./][^;&|<>()`\n=]*( [^;&|<>()`\n]*)?")
BUILTINS = (
    ".", "cd", "command", "eval", "exec", "exit", "export", "if", "read", "set", "trap", "ulimit", "umask", "unset",
    "while",
)  # fmt: skip
# npm's option: a script that is not there is nothing to do.
IF_PRESENT = "--if-present"


class CommandError(Exception):
    """The command can't be run; the text says why."""


def shell_text(package: Mapping[str, Any], words: Sequence[str], node: str = "", lasting: bool = False) -> str:
    """The text for the shell, with npm's variables: one word is taken as the shell's, several as one program's.

    node is the folder of the Node.js that the release was built for; "" for that of the configuration. lasting: it has
    to go on running, so that a script that is not there is an error in any case.

    Raises:
        CommandError: package.json does not have the script.
    """
    script, text = _resolved(package, words, lasting)
    variables = package_variables(package, script)
    exported = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    if PLAIN.fullmatch(text) and text.split()[0] not in BUILTINS:
        text = f"exec {text}"  # signals reach the program itself
    return "; ".join([path_line(node), *exported, text])


def _resolved(package: Mapping[str, Any], words: Sequence[str], lasting: bool) -> tuple[str, str]:
    """The script of package.json, and what it runs; "" for any other command."""
    text = words[0] if len(words) == 1 else shlex.join(words)
    try:
        split = shlex.split(text)
    except ValueError as error:
        raise CommandError(f"{text!r} can't be read: {error}") from error
    if split[:2] not in (["npm", "run"], ["npm", "run-script"]) or re.search(r"[;&|<>`$]", text):
        return "", text
    own, given = _parted(split[2:])
    optional = IF_PRESENT in own
    name, *rest = [word for word in own if word != IF_PRESENT] or [""]
    scripts = package.get("scripts") or {}
    if not isinstance(scripts, Mapping) or not scripts.get(name):
        if optional and name and not lasting:
            return "", ":"  # nothing to do, as to npm
        raise CommandError(
            f"package.json has no script {name!r}: it has {', '.join(scripts) or 'none'}. Name one of these, or give "
            "the command itself"
        )
    main_step = f"{scripts[name]} {shlex.join([*rest, *given])}".strip()
    steps = [scripts.get(f"pre{name}"), main_step, scripts.get(f"post{name}")]
    found = [step for step in steps if step]
    return name, found[0] if len(found) == 1 else " && ".join(f"({step})" for step in found)


def _parted(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """npm's own arguments, and those after `--`, which are the script's."""
    at = words.index("--") if "--" in words else len(words)
    return [*words[:at]], [*words[at + 1 :]]


def settings(*texts: str) -> list[str]:
    """The settings in the sections [Service] of units, for a command in place of an instance on port 0."""
    found = []
    for text in texts:
        section = ""
        for line in text.splitlines():
            if line.startswith("["):
                section = line
            elif section == "[Service]" and "=" in line and line[0] not in "#;" and not line.startswith(NOT_TAKEN):
                found.append(line.replace("%i", "0"))
    return found


def unit_settings() -> list[str]:
    """Those of this host's instances: of their unit, and of the accepted configuration where there is one.

    Before the first instance starts none is accepted yet, and the newest counts.
    """
    folder = CONFIGURATION
    if not folder.is_dir():
        folder = max(CONFIGURATIONS.glob("[!.]*"), key=lambda path: path.stat().st_mtime, default=folder)
    parts = [path.read_text(encoding="utf-8") for path in (TEMPLATE, folder / "unit.conf") if path.is_file()]
    if not parts:
        raise CommandError(f"{TEMPLATE} is not on this host: site.yml has to configure its instances first")
    found, environment = settings(*parts), folder / "environment"
    if environment.is_file():
        found = [line for line in found if not line.startswith("EnvironmentFile=")]
        found.append(f"EnvironmentFile={environment}")
    return found


def line(text: str, release: Path, properties: Sequence[str], seconds: int, terminal: bool, unit: str) -> list[str]:
    """The command line that runs the text as a transient unit."""
    return [
        *("systemd-run", "--pty" if terminal else "--pipe", "--wait", "--collect", "--quiet", "--service-type=exec"),
        f"--unit={unit}",
        *(f"--property={one}" for one in properties),
        f"--property=WorkingDirectory={release}",
        *([f"--property=RuntimeMaxSec={seconds}"] if seconds else []),
        # systemd replaces variables itself, before the shell can.
        *("--", "/bin/sh", "-c", text.replace("$", "$$")),
    ]


def run(words: Sequence[str], name: str, seconds: int, lock: str = "") -> int:
    """Run it to its end, and return its exit status.

    Raises:
        CommandError: it can't be run, or took too long.
        releases.NotUnpacked: the release is not on this host.
        turn.Superseded: another play than that with the lock has come to this host.
    """
    release = releases.unpacked(name or Path(files.target(paths.CURRENT)).name)
    package = json.loads((release / "package.json").read_text(encoding="utf-8"))
    text = shell_text(package, words, releases.node(release))
    unit = PLAYS_UNIT if lock else UNIT
    turn.enter(lock)
    if lock:
        _stop(unit)  # that of a play that is dead
    elif systemd.show("ActiveState", unit)[0]["ActiveState"] not in ("inactive", "failed"):
        raise CommandError(f"another command runs: wait for its end, or end it by systemctl stop {unit}")
    began = time.monotonic()
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    running = subprocess.Popen(line(text, release, unit_settings(), seconds, terminal, unit))
    try:
        status = _ended(running, lock)
    finally:
        # Where it was interrupted, or its terminal went away, it would go on by itself.
        _stop(unit)
        running.wait()
    if status and seconds and time.monotonic() - began >= seconds:
        raise CommandError(f"the command took longer than {seconds} s and was ended: {' '.join(words)}")
    return status


def _ended(running: subprocess.Popen[bytes], lock: str) -> int:
    """Wait for the command's end, and return its exit status. Raises turn.Superseded."""
    while True:
        try:
            return running.wait(POLL_S if lock else None)
        except subprocess.TimeoutExpired:
            with turn.held(lock):
                pass


def _stop(unit: str) -> None:
    subprocess.run(["systemctl", "stop", f"{unit}.service"], stderr=subprocess.DEVNULL, check=False)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", default="", help="in place of the current one")
    parser.add_argument("--timeout", type=int, default=0, help="seconds that it may take; 0: any time")
    turn.add_option(parser)
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND...")
    options = parser.parse_args(arguments)
    words = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not words or not words[0].strip():
        parser.error("no command is given")
    try:
        return run(words, options.release, options.timeout, options.lock)
    except (CommandError, releases.NotUnpacked, turn.Superseded) as error:
        print(error, file=sys.stderr)
        return 1
