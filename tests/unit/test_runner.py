"""What `phoenixctl play` runs, and what it refuses; what is packed for control."""

import tarfile
from io import BytesIO
from pathlib import Path
from types import ModuleType

import pytest

from phoenix.build import project as packer
from phoenix.common import tar
from phoenix.pipeline import run


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


def test_packs_the_same_bytes_whatever_was_left_lying_about(tmp_path: Path) -> None:
    for name in ("ansible.cfg", "roles/a/tasks/main.yml", "playbooks/x.yml", "lab/secret"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    first = tar.pack(tmp_path, packer.members(tmp_path))
    (tmp_path / "roles/a/__pycache__").mkdir()
    (tmp_path / "roles/a/__pycache__/x.pyc").write_bytes(b"x")
    assert tar.pack(tmp_path, packer.members(tmp_path)) == first
    with tarfile.open(fileobj=BytesIO(first)) as archive:
        assert archive.getnames() == ["ansible.cfg", "playbooks/x.yml", "roles/a/tasks/main.yml"]
