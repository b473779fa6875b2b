"""Paths, readers, and what Ansible makes of templates and inventories, as the unit tests share them."""

import atexit
import functools
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

TOP = Path(__file__).resolve().parents[2]
# Of settings that would change what Ansible does.
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
ROLES = sorted(path.parent.name for path in (TOP / "roles").glob("*/meta"))


class AnsibleLoader(yaml.CSafeLoader):
    """YAML as Ansible reads it: the tags of vaulted and unsafe values are accepted."""


for tag in ("!vault", "!unsafe"):
    AnsibleLoader.add_constructor(tag, lambda _, node: node.value)


def read_yaml(path: Path) -> Any:
    return (yaml.load(path.read_text(encoding="utf-8"), AnsibleLoader) or {}) if path.exists() else {}


SAMPLES = read_yaml(Path(__file__).with_name("sample_vars.yml"))


def trusted(value: Any) -> Any:
    """Role defaults may be templates themselves; Ansible renders only text that is marked as trusted."""
    if isinstance(value, dict):
        return {key: trusted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [trusted(item) for item in value]
    return trust_as_template(value) if isinstance(value, str) else value


def inputs(role: str, top: Path = TOP) -> dict[str, Any]:
    """A role's variables with the samples of what the inventory gives it. top: of another checkout."""
    folder = top / "roles" / role
    return {
        "role_path": str(folder),
        "role_name": role,
        **read_yaml(folder / "defaults" / "main.yml"),
        **read_yaml(folder / "vars" / "main.yml"),
        **SAMPLES.get("common", {}),
        **(SAMPLES.get("roles", {}).get(role) or {}),
    }


def rendered(path: Path, own: dict[str, Any] | None = None) -> str:
    """A role's template with the role's variables, the samples, and inputs of the caller's own."""
    role = path.parents[1].name
    variables = {
        **inputs(role, path.parents[3]),
        "template_path": str(path),
        **(SAMPLES.get("templates", {}).get(f"{role}/{path.name}") or {}),
        **(own or {}),
    }
    loader = DataLoader()
    loader.set_basedir(str(path.parent))
    text = trust_as_template(path.read_text(encoding="utf-8"))
    return str(Templar(loader=loader, variables=trusted(variables)).template(text))


@functools.cache
def fork_server() -> socket.socket:
    """Start fork_server.py, once in each worker."""
    own, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("fork_server.py"), str(its.fileno())],
            cwd=TOP,
            env=CLEAN,
            pass_fds=[its.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
    atexit.register(process.wait)
    atexit.register(own.close)  # before that, and the process ends
    return own


def run_ansible(program: Path | str, *words: Any, given: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    """Run this program of Ansible's, or one that imports it, from the top; more: of its environment.

    Forked where Ansible is imported already: starting it takes more than most of what the tests ask of it.
    """
    environment = {**CLEAN, **more}
    assert not any(name.startswith("ANSIBLE_") for name in more), f"{list(more)}: it has been read, start a process"
    request = {"words": [str(program), *map(str, words)], "environment": environment}
    with (
        tempfile.TemporaryFile("w+") as source,
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
    ):
        source.write(given)
        source.seek(0)
        files = [file.fileno() for file in (source, out, err)]
        socket.send_fds(fork_server(), [json.dumps(request).encode()], files)
        status = int(fork_server().recv(16) or b"70")
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(list(map(str, (program, *words))), status, out.read(), err.read())


def evaluate(inventory: Path, expressions: Mapping[str, str], project: Path = TOP) -> dict[str, Any]:
    """Return the value of each host's expression, as a task of a play would see it; Ansible starts once for all."""
    program, words = TOP / "tests" / "unit" / "evaluate.py", (project / "playbooks", inventory)
    given = json.dumps(dict(expressions))
    if project == TOP:
        done = run_ansible(program, *words, given=given)
    else:  # which has an ansible.cfg of its own
        command = list(map(str, (sys.executable, program, *words)))
        done = subprocess.run(command, cwd=project, env=CLEAN, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout))


def phoenixctl(folder: Path) -> Path:
    """Make a folder, for PATH, that holds `phoenixctl` as a program, of this checkout."""
    folder.mkdir()
    program = folder / "phoenixctl"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={TOP / "src"} exec {sys.executable} -m phoenix "$@"\n')
    program.chmod(0o755)
    return folder


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
