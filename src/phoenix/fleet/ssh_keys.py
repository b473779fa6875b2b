"""The SSH keys that hosts have made for themselves, each replaced by another one with both accepted side by side.

phoenixctl keys show PATH             the public halves, as JSON: {"present": TEXT, "next": "", "former": ""}
phoenixctl keys next PATH             make the next key beside the present one
phoenixctl keys switch PATH           put the next one in its place, and keep it as the former one
phoenixctl keys try PATH USER ADDRESS [--port N] --host-key "TYPE KEY"
                                      which it accepts, as JSON: {"server": ADDRESS, "present": true}
phoenixctl keys forget PATH           remove the former one

Each step does what is left of it, so that a replacement that was cut is completed by carrying out all of them again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HALVES = ("present", "next", "former")
TIMEOUT_S = 60
ALIAS = "phoenix-server"  # the name under which the server's host key is known


def half(path: Path, name: str) -> Path:
    return path if name == "present" else path.with_name(f"{path.name}.{name}")


def public(path: Path) -> str:
    """The public half of a private key, from the private one; "" where there is none."""
    if not path.exists():
        return ""
    command = ["ssh-keygen", "-y", "-f", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL).stdout.strip()


def show(path: Path) -> dict[str, str]:
    return {name: public(half(path, name)) for name in HALVES}


def make_next(path: Path) -> bool:
    """Whether another key was made. None is made before the former one is forgotten: that has to be completed first."""
    upcoming = half(path, "next")
    if not path.exists() or upcoming.exists() or half(path, "former").exists():
        return False
    partial = half(path, "partial")
    for leftover in (partial, partial.with_name(f"{partial.name}.pub")):
        leftover.unlink(missing_ok=True)
    comment = public(path).partition(" ")[2].partition(" ")[2]
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(partial)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    partial.with_name(f"{partial.name}.pub").unlink()
    _own_like(path, partial)
    partial.replace(upcoming)
    return True


def switch(path: Path) -> bool:
    """Whether anything changed. The file beside it with the public half follows, also where an earlier run was cut."""
    upcoming, former = half(path, "next"), half(path, "former")
    changed = upcoming.exists()
    if changed:
        if not former.exists():
            os.link(path, former)
        upcoming.replace(path)
    beside, wanted = path.with_name(f"{path.name}.pub"), f"{public(path)}\n"
    if path.exists() and (not beside.exists() or beside.read_text(encoding="utf-8") != wanted):
        partial = half(path, "partial")
        partial.write_text(wanted, encoding="utf-8")
        partial.chmod(0o644)
        _own_like(path, partial)
        partial.replace(beside)
        changed = True
    return changed


def forget(path: Path) -> bool:
    former = half(path, "former")
    changed = former.exists()
    former.unlink(missing_ok=True)
    return changed


def _own_like(path: Path, other: Path) -> None:
    owner = path.stat()
    os.chown(other, owner.st_uid, owner.st_gid)


def accepted(key: Path, user: str, address: str, port: int, host_key: str) -> bool:
    """Whether the server with this host key lets a key in. What it runs then refuses the command, or does nothing.

    Raises:
        ValueError: it was neither let in nor refused; the message says why.
    """
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".known_hosts") as known:
        known.write(f"{ALIAS} {host_key}\n")
        known.flush()
        options = {
            "BatchMode": "yes", "IdentitiesOnly": "yes", "IdentityAgent": "none", "ControlPath": "none",
            "PreferredAuthentications": "publickey", "StrictHostKeyChecking": "yes", "HostKeyAlias": ALIAS,
            "UserKnownHostsFile": known.name, "GlobalKnownHostsFile": "/dev/null", "ConnectTimeout": "20",
            "LogLevel": "VERBOSE",
        }  # fmt: skip
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        words += ["-i", str(key), "-p", str(port), f"{user}@{address}", "true"]
        command = ["ssh", "-F", "none", "-T", "-n", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    if "Authenticated to " in done.stderr:
        return True
    if "Permission denied" in done.stderr:
        return False
    raise ValueError(f"{user}@{address}, port {port}, gave no answer: {' '.join(done.stderr.split())[-300:]}")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="phoenixctl keys", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    acts = {"next": make_next, "switch": switch, "forget": forget}
    for verb in ("show", "try", *acts):
        one = verbs.add_parser(verb)
        one.add_argument("path", type=Path)
        if verb == "try":
            one.add_argument("user")
            one.add_argument("address")
            one.add_argument("--port", type=int, default=22)
            one.add_argument("--host-key", required=True, help="the server's public host key, with its type")
    options = parser.parse_args(arguments)
    try:
        if options.verb == "show":
            print(json.dumps(show(options.path)))
        elif options.verb == "try":
            server = (options.user, options.address, options.port, options.host_key)
            halves = [name for name in HALVES if half(options.path, name).exists()]
            tried = {name: accepted(half(options.path, name), *server) for name in halves}
            print(json.dumps({"server": options.address, **tried}))
        else:
            print(json.dumps({"changed": acts[options.verb](options.path)}))
    except subprocess.CalledProcessError as error:
        print(f"phoenixctl keys: {error}: {(error.stderr or '').strip()}", file=sys.stderr)
        return 1
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        print(f"phoenixctl keys: {error}", file=sys.stderr)
        return 1
    return 0
