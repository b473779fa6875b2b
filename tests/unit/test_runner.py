"""What `phoenixctl play` runs, and what it refuses; what is packed for control."""

import configparser
import os
import pwd
import re
import subprocess
import sys
import tarfile
from base64 import b64encode
from io import BytesIO
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from phoenix.autoscaler import action
from phoenix.autoscaler.config import Action
from phoenix.build import project as packer
from phoenix.common import play, tar
from phoenix.fleet.inventory import known_variables
from phoenix.fleet.wiring import CONTROL_ROLES, NOT_FOR_CONTROL, control_variables
from phoenix.pipeline import run
from tests.unit.shared import ROLES, TOP, read_yaml, rendered


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    return run


def test_runs_a_play(runner: ModuleType) -> None:
    line = runner.command(["scale", "-e", "phoenix_capacity=4", "--check"])
    assert line[1:] == [
        "-i",
        "/opt/phoenix/runner/inventory.yml",
        "playbooks/scale.yml",
        "-e",
        "phoenix_capacity=4",
        "--check",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["site"],
        ["../scale"],
        ["scale", "-e", "phoenix_capacity={{ lookup('pipe', 'id') }}"],
        ["scale", "-e", "phoenix_capacity=4 ansible_user=root"],
        ["scale", "-e", "ansible_ssh_common_args=-oProxyCommand=id"],
        ["scale", "-e", "@/etc/passwd"],
        ["scale", "-e", '{"phoenix_capacity": 4}'],
        ["scale", "-e", "phoenix_capacity=@x"],
        ["scale", "--inventory", "/tmp/x"],
        ["scale", "--become-user", "root"],
        ["scale", "--che"],
        ["scale", "-e", "phoenix_capacity="],
    ],
)
def test_refuses(runner: ModuleType, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        runner.command(arguments)
    assert refused.value.code == 64
    assert "phoenixctl play" in capsys.readouterr().err


def test_plays_have_the_same_environment_whoever_runs_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By phoenixctl play, or for the autoscaler and hosts on demand."""
    ran: dict[str, dict[str, str]] = {}

    def note(**options: Any) -> SimpleNamespace:
        ran["autoscaler"] = options["envvars"]
        return SimpleNamespace(status="successful", rc=0)

    monkeypatch.setitem(sys.modules, "ansible_runner", SimpleNamespace(run=note))
    assert action.Playbooks(Action(), tmp_path).recount(1.0).good
    account = SimpleNamespace(pw_uid=os.geteuid(), pw_gid=os.getegid(), pw_dir="/var/lib/phoenix-runner")
    monkeypatch.setattr(pwd, "getpwnam", lambda _: account)
    monkeypatch.setattr(os, "chdir", lambda _: None)
    monkeypatch.setattr(os, "execve", lambda program, line, environment: ran.update(play=environment))
    monkeypatch.setenv("SUDO_USER", "ann")
    run.main(["status"])
    shared = play.environment("/opt/phoenix/runner/venv/bin", "phoenix-autoscaler")
    assert (
        shared["PATH"].startswith("/opt/phoenix/runner/venv/bin:") and "ControlPersist=" in shared["ANSIBLE_SSH_ARGS"]
    )
    assert ran == {
        "autoscaler": shared,
        "play": {
            **shared,
            "USER": "phoenix-runner",
            "HOME": "/var/lib/phoenix-runner",
            "PHOENIX_WHO": "ann (phoenixctl play)",
        },
    }


def test_packs_the_same_bytes_despite_leftover_files(tmp_path: Path) -> None:
    for name in ("ansible.cfg", "roles/a/tasks/main.yml", "playbooks/x.yml", "lab/secret"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    first = tar.pack(tmp_path, packer.members(tmp_path))
    (tmp_path / "roles/a/__pycache__").mkdir()
    (tmp_path / "roles/a/__pycache__/x.pyc").write_bytes(b"x")
    assert tar.pack(tmp_path, packer.members(tmp_path)) == first
    with tarfile.open(fileobj=BytesIO(first)) as archive:
        assert archive.getnames() == ["ansible.cfg", "playbooks/x.yml", "roles/a/tasks/main.yml"]


def script(name: str, step: str, top: Path) -> tuple[int, str]:
    """Run the script of a task of the role below another folder; its status and what it prints."""
    (task,) = [one for one in read_yaml(TOP / "roles/runner/tasks" / name) if one["name"] == step]
    assert "creates" not in task["args"], "once there is a former one, a run that was cut is never finished"
    folder = "{{ runner_libraries_folder | quote }}"
    text = task["ansible.builtin.shell"].replace("/opt/phoenix/runner", str(top)).replace(folder, str(top))
    environment = {"PATH": f"{top / 'bin'}:/usr/bin:/bin", "LANG": "C"}
    done = subprocess.run(["bash", "-c", text], env=environment, stdout=subprocess.PIPE, text=True, check=False)
    return done.returncode, done.stdout


def indexed(top: Path) -> None:
    """Have a python3 there whose pip fails while the file `offline` exists."""
    (top / "bin").mkdir()
    python = top / "bin" / "python3"
    pip = "#!/bin/sh\\n! [ -e offline ]\\n"
    python.write_text(f'#!/bin/sh\nmkdir -p "$3/bin"; printf \'{pip}\' >"$3/bin/pip"; chmod +x "$3/bin/pip"\n')
    python.chmod(0o755)


@pytest.mark.parametrize(
    ("role", "folder"), [("runner", "/opt/phoenix/runner"), ("autoscaler", "/opt/phoenix/autoscaler")]
)
def test_every_role_with_libraries_of_its_own_installs_them_beside_the_former_ones(role: str, folder: str) -> None:
    tasks = read_yaml(TOP / "roles" / role / "tasks" / "install.yml")
    (task,) = [one for one in tasks if "runner_libraries_folder" in one.get("vars", {})]
    assert task["vars"]["runner_libraries_folder"] == folder
    includes = task.get("ansible.builtin.include_role") or {"name": role, "tasks_from": "libraries"}
    assert includes == {"name": "runner", "tasks_from": "libraries"}
    written = [one["ansible.builtin.copy"]["dest"] for one in tasks if "ansible.builtin.copy" in one]
    assert f"{folder}/requirements.txt" in written
    elsewhere = [
        path.name
        for path in (TOP / "roles" / role / "tasks").glob("*.yml")
        if "bin/pip" in path.read_text(encoding="utf-8") and path.name != "libraries.yml"
    ]
    assert elsewhere == []


def test_an_upgrade_of_libraries_that_was_cut_is_done_by_the_next_run(tmp_path: Path) -> None:
    indexed(tmp_path)

    def run() -> tuple[int, str]:
        return script("libraries.yml", "Install the packages into a virtual environment", tmp_path)

    def used() -> str:
        return (tmp_path / "venv" / "installed.txt").read_text()

    (tmp_path / "requirements.txt").write_text("one")
    assert run()[1] != ""
    assert (run(), used()) == ((0, ""), "one")
    (tmp_path / "requirements.txt").write_text("two")
    (tmp_path / "offline").touch()
    assert (run()[0], used()) == (1, "one")
    (tmp_path / "offline").unlink()
    assert run()[1] != ""
    assert (run(), used()) == ((0, ""), "two")
    former = len(list(tmp_path.glob("venv-*")))
    (tmp_path / "requirements.txt").write_text("three")
    assert run()[1] != "" and used() == "three"
    assert former == len(list(tmp_path.glob("venv-*"))) == 2, "that in use, and the one before"


def test_libraries_that_an_earlier_version_installed_in_place_serve_until_the_new_ones_are_complete(
    tmp_path: Path,
) -> None:
    def run() -> tuple[int, str]:
        return script("libraries.yml", "Install the packages into a virtual environment", tmp_path)

    indexed(tmp_path)
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "installed.txt").write_text("zero")
    (tmp_path / "requirements.txt").write_text("one")
    (tmp_path / "offline").touch()
    assert run()[0] == 1 and (tmp_path / "venv" / "installed.txt").read_text() == "zero"
    (tmp_path / "offline").unlink()
    assert run()[1] != "" and (tmp_path / "venv" / "installed.txt").read_text() == "one"
    assert (tmp_path / "venv-former").is_dir(), "a program that runs has it"
    (tmp_path / "requirements.txt").write_text("two")
    assert run()[1] != "" and not (tmp_path / "venv-former").exists()


def test_a_project_that_was_copied_and_not_unpacked_is_unpacked_by_the_next_run(tmp_path: Path) -> None:
    def copy(text: str) -> None:
        (tmp_path / "ansible.cfg").write_text(f"{text}\ncallbacks_enabled = x\n")
        (tmp_path / "project.tar").write_bytes(tar.pack(tmp_path, [Path("ansible.cfg")]))

    def run() -> tuple[int, str]:
        return script("configure.yml", "Unpack the project", tmp_path)

    for text in ("one", "two"):
        copy(text)  # and the run ends here
        assert run()[1] != ""
        assert run() == (0, "")
        assert (tmp_path / "project" / "ansible.cfg").read_text() == f"{text}\n"


def test_every_option_of_the_roles_that_control_runs_reaches_it() -> None:
    known = known_variables(TOP / "roles", TOP / "playbooks")
    options = {name: option for role in CONTROL_ROLES for name, option in known[role].items()}
    secret = {name for name, option in options.items() if option.get("no_log")}
    assert "phoenix_db_connection_string" in secret
    assert options.keys() >= NOT_FOR_CONTROL, "an exception for an option that is gone"
    assert set(control_variables(known)) == options.keys() - secret - NOT_FOR_CONTROL
    assert {"release_ca_file", "state_capacity_initial", "phoenix_first_port"} <= set(control_variables(known))


def test_no_role_that_control_runs_is_forgotten(runner: ModuleType) -> None:
    """Roles are named in the plays that `phoenixctl play` accepts, in their imports, and in the roles themselves."""
    paths = {TOP / "playbooks" / f"{name}.yml" for name in runner.PLAYBOOKS}
    seen: set[Path] = set()
    used: set[str] = set()
    while paths - seen:
        path = (paths - seen).pop()
        seen.add(path)
        text = path.read_text(encoding="utf-8")
        named = re.findall(r"(?:- role|^\s+name|- name): (\w+)$", text, re.MULTILINE)
        used |= {name for name in named if name in ROLES}
        paths |= {
            TOP / "playbooks" / name for name in re.findall(r"(?:import_playbook|include_tasks): ([\w/-]+\.yml)", text)
        }
        paths |= {task for role in used for task in (TOP / "roles" / role / "tasks").glob("*.yml")}
        paths = {path for path in paths if path.exists()}
    # The preflight is off there; the role archive has only what its callers say.
    assert used - {"preflight", "archive"} == set(CONTROL_ROLES) - {"playbooks"}


@pytest.mark.usefixtures("ansible_plugins")
def test_hosts_that_a_run_leaves_out_keep_the_keys_by_which_control_knows_them() -> None:
    former = "#\n# managed\n192.0.2.1 ssh-ed25519 OLD\n192.0.2.2 ssh-ed25519 KEPT\n192.0.2.9 ssh-ed25519 REMOVED\n"
    hosts = {f"h{number}": {"ansible_host": f"192.0.2.{number}"} for number in (3, 2, 1)}
    lines = rendered(
        TOP / "roles" / "runner" / "templates" / "known_hosts.j2",
        {
            "runner_hosts": hosts,
            "runner_host_keys": {"192.0.2.1": "NEW"},
            "__runner_known": {"content": b64encode(former.encode()).decode()},
        },
    ).splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        "192.0.2.1 ssh-ed25519 NEW",
        "192.0.2.2 ssh-ed25519 KEPT",
    ]


@pytest.mark.parametrize("role", ROLES)
def test_a_role_reads_no_private_name_of_another(role: str) -> None:
    """Such a name is undefined as soon as only one of the two runs, by a tag or alone."""
    others = "|".join(other for other in ROLES if other != role)
    foreign = [
        f"{path.relative_to(TOP)}: {name}"
        for folder in ("tasks", "templates", "vars", "handlers", "defaults")
        for path in (TOP / "roles" / role / folder).glob("*")
        for name in re.findall(rf"\b__(?:{others})_\w+", path.read_text(encoding="utf-8"))
    ]
    assert foreign == []


def test_control_gets_every_folder_that_ansible_reads() -> None:
    written = configparser.ConfigParser(interpolation=None)
    written.read(TOP / "ansible.cfg")
    folders = {value for value in written["defaults"].values() if (TOP / value).is_dir() and "/" not in value}
    assert {"library", "module_utils", "roles"} <= folders <= set(packer.PARTS)
