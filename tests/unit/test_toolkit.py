"""Phoenix's own package: one file with a name that is its content, and digests by which units restart."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from phoenix import cli
from phoenix.build import toolkit
from tests.unit.shared import TOP


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of three modules, the second of which imports the third."""
    parts = {
        "__init__.py": "",
        "a.py": "def f() -> None: ...\n",
        "b.py": "def g() -> int:\n    from phoenix import c\n    return c.N\n",
        "c.py": "N = 1\n",
    }
    (tmp_path / "phoenix").mkdir()
    for name, text in parts.items():
        (tmp_path / "phoenix" / name).write_text(text)
    return tmp_path


def test_a_unit_restarts_for_the_code_it_runs_and_for_no_other(package: Path) -> None:
    def digests() -> dict[str, str]:
        parts = toolkit.sources(package)
        return {name: toolkit.digest(toolkit.closure(parts, f"phoenix.{name}")) for name in "abc"}

    before = digests()
    (package / "phoenix" / "c.py").write_text("N = 2\n")
    after = digests()
    assert {name for name in before if before[name] != after[name]} == {"b", "c"}


def test_a_missing_module_is_an_error(package: Path) -> None:
    with pytest.raises(KeyError):
        toolkit.closure(toolkit.sources(package), "phoenix.absent")


def test_the_archive_depends_only_on_the_content(tmp_path: Path) -> None:
    version, data = toolkit.pack(toolkit.root())
    for path in toolkit.root().rglob("*.py"):
        os.utime(path)
    assert toolkit.pack(toolkit.root()) == (version, data)


def test_old_archives_are_removed_and_the_current_one_never(tmp_path: Path) -> None:
    archives = [tmp_path / f"0.9.0-{number}" / "phoenix.pyz" for number in range(toolkit.KEPT + 3)]
    for age, archive in enumerate(archives):
        archive.parent.mkdir()
        archive.touch()
        os.utime(archive, (1000 - age, 1000 - age))
    oldest = archives[-1]
    toolkit.prune(tmp_path, oldest)
    assert sorted(tmp_path.glob("*/phoenix.pyz")) == sorted([*archives[: toolkit.KEPT], oldest])
    assert len(list(tmp_path.iterdir())) == toolkit.KEPT + 1


def test_every_area_runs_out_of_the_archive_without_anything_else(tmp_path: Path) -> None:
    """What is imported at the top of an area's module has to be in the archive or in Python's standard library."""
    version, data = toolkit.pack(toolkit.root())
    archive = tmp_path / "phoenix.pyz"
    archive.write_bytes(data)
    (tmp_path / "phoenixctl").symlink_to(archive)
    program = str(tmp_path / "phoenixctl")
    shown = subprocess.run([sys.executable, "-I", program, "--version"], capture_output=True, text=True, check=False)
    assert shown.stdout == f"phoenixctl {version}\n", shown.stderr
    # The autoscaler has libraries of its own, see its role.
    modules = [area.module for name, area in cli.AREAS.items() if name != "autoscaler"]
    imports = f"import sys; sys.path.insert(0, {program!r}); import {', '.join(modules)}"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", imports], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_modules_compiled_beside_the_archive_are_the_ones_that_run(tmp_path: Path) -> None:
    """By the role's own commands; without them, as at an older version, the archive runs."""
    version, data = toolkit.pack(toolkit.root())
    (tmp_path / "version").mkdir()
    (tmp_path / "version" / "phoenix.pyz").write_bytes(data)
    (tmp_path / "phoenixctl").symlink_to(tmp_path / "version" / "phoenix.pyz")
    tasks = yaml.safe_load((TOP / "roles" / "toolkit" / "tasks" / "install.yml").read_text())
    (script,) = (task["ansible.builtin.shell"] for task in tasks if task["name"] == "Compile its modules")
    script = script.replace("{{ __toolkit_folder | quote }}", str(tmp_path / "version"))
    show = [sys.executable, "-I", "-v", str(tmp_path / "phoenixctl"), "--version"]
    for compiled in (False, True):
        if compiled:
            subprocess.run(["sh", "-c", script], check=True)
        shown = subprocess.run(show, capture_output=True, text=True, check=True)
        assert shown.stdout == f"phoenixctl {version}\n"
        # Python names where it takes each module from.
        matched = re.search(r"/lib/phoenix/__pycache__/cli\..* matches ", shown.stderr)
        assert bool(matched) is compiled, shown.stderr[-2000:]


def test_the_autoscaler_runs_under_the_python_that_has_its_libraries(tmp_path: Path) -> None:
    _, data = toolkit.pack(toolkit.root())
    archive = tmp_path / "phoenix.pyz"
    archive.write_bytes(data)
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    start = (
        f"import sys; sys.path.insert(0, {str(archive)!r})\n"
        "import dataclasses; from phoenix import cli\n"
        f"cli.AREAS['autoscaler'] = dataclasses.replace(cli.AREAS['autoscaler'], python={str(python)!r})\n"
        "cli.main(['autoscaler', 'validate'])"
    )
    done = subprocess.run([sys.executable, "-I", "-c", start], capture_output=True, text=True, check=False)
    assert done.stdout == f"-I {archive} autoscaler validate\n", done.stderr


def test_a_daemon_keeps_the_libraries_that_it_was_started_with(tmp_path: Path) -> None:
    """Behind the link is another folder after an upgrade; what it has yet to import would be of other versions."""
    _, data = toolkit.pack(toolkit.root())
    archive = tmp_path / "phoenix.pyz"
    archive.write_bytes(data)
    python = tmp_path / "venv-1" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$0"\n')
    python.chmod(0o755)
    (tmp_path / "venv").symlink_to("venv-1")
    start = (
        f"import sys; sys.path.insert(0, {str(archive)!r})\n"
        "import dataclasses; from phoenix import cli\n"
        f"python = {str(tmp_path / 'venv/bin/python')!r}\n"
        "cli.AREAS['autoscaler'] = dataclasses.replace(cli.AREAS['autoscaler'], python=python)\n"
        "{setting}cli.main(['autoscaler', 'validate', '--config', '/nowhere'])"
    )
    commands = [start.format(setting=""), start.format(setting=f"sys.executable = {str(python)!r}\n")]
    first, second = (
        subprocess.run([sys.executable, "-I", "-c", one], capture_output=True, text=True, check=False)
        for one in commands
    )
    assert first.stdout == f"{python}\n", first.stderr
    assert second.stdout == "" and "/nowhere" in second.stderr, "that one goes on itself"


def test_the_operators_folder_does_not_hide_pythons_own_modules(tmp_path: Path) -> None:
    """The source is packed in the folder from which the operator started the play."""
    (tmp_path / "tarfile.py").write_text("raise SystemExit('not the module of Python')\n")
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "package.json").write_text('{"version": "1.0.0"}')
    tasks = yaml.safe_load((TOP / "roles" / "release" / "tasks" / "source_folder.yml").read_text())
    (environment,) = (task["environment"] for task in tasks if "environment" in task)
    command = [sys.executable, "-m", "phoenix", "build", "source", "app", "packed"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(TOP / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_an_unknown_area_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["backups", "list"]) == 64
    assert "'backups'" in capsys.readouterr().err


COMMAND = re.compile(
    r"(?:/usr/local/bin/phoenixctl |cmd: phoenixctl |\[phoenixctl, |'phoenixctl', '|- phoenixctl\s+- )([a-z]+)"
)


def test_every_command_in_roles_and_playbooks_names_an_area() -> None:
    files = [
        path
        for folder in ("roles", "playbooks")
        for path in (TOP / folder).rglob("*")
        if path.suffix in (".yml", ".j2")
    ]
    seen = {found[1] for path in files for found in COMMAND.finditer(path.read_text(encoding="utf-8"))}
    assert {"lock", "upstreams", "instances", "backup"} <= seen
    assert seen - set(cli.AREAS) == set()
