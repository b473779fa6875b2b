"""Run one of the fleet's plays from control: sudo phoenixctl play PLAYBOOK [--check] [--diff] [-e KEY=VALUE]...

Plays run as the user phoenix-runner, whose key every host knows. Only the playbooks named here can be run, and values
cannot be templates: a user allowed to call this must not be able to run anything else with it.
Exit status: that of ansible-playbook, or 64 for a request that is refused.
"""

from __future__ import annotations

import argparse
import os
import pwd
import re
import sys

from phoenix.common import play

PLAYBOOKS = (
    *("scale", "build", "deploy", "rollback", "reconcile", "verify", "status", "maintenance", "certificates"),
    "failover",
)
VARIABLE = re.compile(r"(?:phoenix|scale|deploy|rollback|release)_[a-z0-9_]+=[A-Za-z0-9/][A-Za-z0-9._+:/@#-]*")
USER = "phoenix-runner"
TOP = "/opt/phoenix/runner"


def variable(text: str) -> str:
    if not VARIABLE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r}: give name=value, a variable of the fleet with a plain value")
    return text


def command(arguments: list[str]) -> list[str]:
    """Return the command line for a request; exit with status 64 if it is refused."""
    parser = argparse.ArgumentParser(prog="phoenixctl play", allow_abbrev=False)
    parser.error = lambda message: sys.exit((print(f"phoenixctl play: {message}", file=sys.stderr), 64)[1])  # type: ignore[method-assign]
    parser.add_argument("playbook", choices=PLAYBOOKS)
    parser.add_argument("-e", dest="variables", action="append", type=variable, default=[], metavar="KEY=VALUE")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--diff", action="store_true")
    options = parser.parse_args(arguments)
    line = [f"{TOP}/venv/bin/ansible-playbook", "-i", f"{TOP}/inventory.yml", f"playbooks/{options.playbook}.yml"]
    for assignment in options.variables:
        line += ["-e", assignment]
    return line + ["--check"] * options.check + ["--diff"] * options.diff


def main(arguments: list[str]) -> None:
    line = command(arguments)
    account = pwd.getpwnam(USER)
    caller = os.environ.get("SUDO_USER", "root")
    # A unit's user is that one already.
    if os.geteuid() != account.pw_uid:
        if os.geteuid() != 0:
            sys.exit("phoenixctl play: run it with sudo")
        os.initgroups(USER, account.pw_gid)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    os.chdir(f"{TOP}/project")
    environment = {
        **play.environment(f"{TOP}/venv/bin", USER),
        "HOME": account.pw_dir,
        # The holder of the lock, shown to others who find it taken, and the author of a deploy in the history.
        "PHOENIX_WHO": f"{caller} (phoenixctl play)",
    }
    os.execve(line[0], line, environment)
