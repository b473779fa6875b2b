"""What `phoenixctl play` runs, and what it refuses; what is packed for control."""

import re
import tarfile
from io import BytesIO
from pathlib import Path
from types import ModuleType

import pytest

from phoenix.build import project as packer
from phoenix.common import tar
from phoenix.fleet.inventory import known_variables
from phoenix.fleet.wiring import CONTROL_ROLES, NOT_FOR_CONTROL, control_variables
from phoenix.pipeline import run
from tests.unit.shared import ROLES, TOP


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
