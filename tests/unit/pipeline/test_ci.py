"""Requests that a pipeline's key may make (phoenix.pipeline.forced), and the stages (phoenix-stage)."""

import importlib
import io
import json
import subprocess
import tarfile
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from phoenix.pipeline import forced
from tests.unit.shared import TOP, phoenixctl, rendered

FILES = TOP / "roles" / "ci" / "files"
COMMIT = "0123456789abcdef0123456789abcdef01234567"  # pragma: allowlist secret


@pytest.fixture
def deploy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program, which records the plays it would run in `played`."""
    module = importlib.reload(forced)
    played: list[list[str]] = []
    monkeypatch.setattr(module, "SOURCES", str(tmp_path))

    def play(*words: str) -> int:
        played.append(list(words))
        return 0

    monkeypatch.setattr(module, "play", play)
    module.played = played  # type: ignore[attr-defined]
    return module


@pytest.mark.parametrize(
    ("words", "played"),
    [
        (["deploy", "1.0.0-0123abcd"], ["deploy", "phoenix_version=1.0.0-0123abcd"]),
        (["rollback"], ["rollback"]),
        (["rollback", "1.0.0"], ["rollback", "phoenix_version=1.0.0"]),
        (["verify"], ["verify"]),
    ],
)
def test_allowed_requests(deploy: ModuleType, words: list[str], played: list[str]) -> None:
    assert deploy.answer(words) == 0
    assert deploy.played == [played]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "bash",
        "deploy",
        "deploy ../x",
        "deploy -e",
        "deploy 1 2",
        "deploy {{x}}",
        "rollback ;id",
        "rollback 1 --check",
        "scale 4",
        "package",
        "package main",
        f"package {COMMIT} x",
        "verify --diff",
        "result",
        "result perfect",
        "result good failed",
    ],
)
def test_refused_requests(deploy: ModuleType, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert deploy.answer(line.split()) == 64
    assert deploy.played == []
    assert "nothing else" in capsys.readouterr().err


@pytest.mark.parametrize("result", ["good", "failed"])
def test_a_pipeline_elsewhere_reports_its_result(
    deploy: ModuleType, result: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    assert deploy.answer(["result", result]) == 0
    # As the line of sudoers has it.
    assert ran == [["sudo", "-n", "/usr/local/bin/phoenixctl", "pipeline", "result", result]]
    sudoers = (TOP / "roles/ci/tasks/configure.yml").read_text(encoding="utf-8")
    assert " ".join(ran[0][2:]) in sudoers


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def package(deploy: ModuleType, monkeypatch: pytest.MonkeyPatch, data: bytes) -> int:
    monkeypatch.setattr(deploy.sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    return int(deploy.answer(["package", COMMIT]))


def test_a_source_is_built_under_its_commits_name(
    deploy: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert package(deploy, monkeypatch, archive({"package.json": b'{"version": "1.2.3"}'})) == 0
    assert capsys.readouterr().out == "1.2.3-01234567\n"
    assert [words[0] for words in deploy.played] == ["build"]
    assert "phoenix_build_as=1.2.3-01234567" in deploy.played[0]
    assert list(tmp_path.iterdir()) == [], "the source is left over"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no archive at all" * 1000,
        archive({"readme": b""}),
        archive({"package.json": b"{"}),
        archive({"package.json": b'{"version": "../../x"}'}),
        archive({"../outside": b"x", "package.json": b'{"version": "1"}'}),
    ],
)
def test_an_invalid_source_is_refused(
    deploy: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data: bytes
) -> None:
    assert package(deploy, monkeypatch, data) != 0
    assert deploy.played == []
    assert not (tmp_path.parent / "outside").exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("ansible_plugins")
def test_checks_reach_no_other_database_host() -> None:
    path = TOP / "roles" / "ci" / "templates" / "phoenix-ci.service.j2"
    text = rendered(path, {"ci_denied_addresses": ["192.0.2.31", "2001:db8::32"]})
    assert "\nIPAddressDeny=192.0.2.31 2001:db8::32\n" in text
    assert "IPAddressDeny" not in rendered(path)


@pytest.mark.parametrize("name", ["phoenix-stage", "phoenix-pipeline"])
def test_the_scripts_can_be_read_by_the_shell(name: str) -> None:
    assert subprocess.run(["bash", "-n", str(FILES / name)], check=False).returncode == 0


def test_an_unknown_stage_is_explained(tmp_path: Path) -> None:
    asked = subprocess.run(
        [str(FILES / "phoenix-stage"), "nonsense"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert asked.returncode == 64
    assert "phoenix-stage lint|test|package" in asked.stderr


def test_all_stages_end_with_the_first_that_fails(tmp_path: Path) -> None:
    # No Git repository here, and so the first stage fails.
    asked = subprocess.run(
        [str(FILES / "phoenix-stage"), "all"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert asked.returncode != 0
    stages = (tmp_path / "reports" / "stages.json").read_text()
    assert '"lint"' in stages
    assert '"test"' not in stages


def test_the_delivery_sends_the_commit_out_of_the_repository(tmp_path: Path) -> None:
    """As phoenix-deliver runs it: in an empty folder, beside a bare repository that has gone on."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(tmp_path / "source"), "-c", "user.name=x", "-c", "user.email=x@example.org", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    for name in ("source", "work"):
        (tmp_path / name).mkdir()
    git("init", "--quiet", "--initial-branch=main")
    commits = []
    for text in ("one", "two"):
        (tmp_path / "source" / "file").write_text(text)
        git("add", "--all")
        git("commit", "--quiet", "--message=x")
        commits.append(git("rev-parse", "HEAD"))
    git("clone", "--quiet", "--bare", ".", str(tmp_path / "application.git"))
    control = tmp_path / "control"
    control.write_text('#!/bin/sh\necho "$*" >>calls\ncase $1 in package) tar -xO file >sent; echo 1.0-x ;; esac\n')
    control.chmod(0o755)
    done = subprocess.run(
        [str(FILES / "phoenix-stage"), "deliver"],
        cwd=tmp_path / "work",
        env={
            "PATH": f"{phoenixctl(tmp_path / 'bin')}:/usr/bin:/bin",
            "GIT_DIR": str(tmp_path / "application.git"),
            "PHOENIX_COMMIT": commits[0],
            "PHOENIX_DEPLOY": str(control),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "work" / "sent").read_text() == "one"
    asked = (tmp_path / "work" / "calls").read_text().splitlines()
    assert asked == [f"package {commits[0]}", "deploy 1.0-x", "verify", "record"]
    stages = json.loads((tmp_path / "work" / "reports" / "stages.json").read_text())
    assert {name: stage["status"] for name, stage in stages.items()} == dict.fromkeys(
        ("package", "deploy", "verify", "record"), 0
    )


def delivery(folder: Path, control: str, limit: str, programs: str = "") -> subprocess.CompletedProcess[str]:
    """`phoenix-stage deliver` in a repository of its own; `control` is what happens there, by verb."""
    (folder / "control").write_text(f"#!/bin/sh\ncase $1 in package) cat >sent; echo 1.0-x ;; {control} esac\n")
    (folder / "control").chmod(0o755)
    git = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (["init", "--quiet"], ["commit", "--quiet", "--allow-empty", "--message=x"]):
        subprocess.run([*git, *words], check=True)
    return subprocess.run(
        [str(FILES / "phoenix-stage"), "deliver"],
        cwd=folder,
        env={
            "PATH": f"{programs}{phoenixctl(folder / 'phoenix')}:/usr/bin:/bin",
            "PHOENIX_DEPLOY": str(folder / "control"),
            "PHOENIX_STAGE_TIMEOUT": limit,
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_stage_but_the_roll_out_has_the_time_limit(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "timeout").write_text('#!/bin/sh\necho "$2 $4" >>limits; shift 2; exec "$@"\n')
    (tmp_path / "bin" / "timeout").chmod(0o755)
    done = delivery(tmp_path, "", "17m", f"{tmp_path}/bin:")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "limits").read_text().splitlines() == ["17m package", "17m verify", "17m record"]


def test_a_stage_that_hangs_is_ended_and_a_roll_out_is_not(tmp_path: Path) -> None:
    """Its time is over at once, and that of the roll-out, which takes as long, never."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "timeout").write_text(
        '#!/bin/bash\n[ "$4" = verify ] && exec /usr/bin/timeout 0.1 "${@:3}"\nexec /usr/bin/timeout "${@:2}"\n'
    )
    (tmp_path / "bin" / "timeout").chmod(0o755)
    done = delivery(tmp_path, "deploy) sleep 0.5 ;; verify) exec sleep 1h ;;", "10m", f"{tmp_path}/bin:")
    assert done.returncode == 124, done.stdout + done.stderr
    stages = json.loads((tmp_path / "reports" / "stages.json").read_text())
    assert {name: stage["status"] for name, stage in stages.items()} == {"package": 0, "deploy": 0, "verify": 124}


# Stands for node, npm's own program among what it runs: notes npm's commands; the application has a linter.
NODE = """#!/bin/sh
case $1 in
    --version) ;;
    -p) echo eslint ;;
    *) shift; echo "$1 $2" >>calls ;;
esac
"""


@pytest.mark.parametrize(
    ("locks", "command", "changed"),
    [
        (["package-lock.json"], "ci --no-audit", "package-lock.json"),
        (["npm-shrinkwrap.json"], "ci --no-audit", "npm-shrinkwrap.json"),
        (["npm-shrinkwrap.json", "package-lock.json"], "ci --no-audit", "npm-shrinkwrap.json"),
        ([], "install --no-package-lock", "package.json"),
    ],
)
def test_modules_are_installed_again_when_what_names_them_changes(
    tmp_path: Path, locks: list[str], command: str, changed: str
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "node").write_text(NODE)
    (tmp_path / "bin" / "node").chmod(0o755)
    for name in ("package.json", *locks):
        (tmp_path / name).write_text("{}")

    def lint() -> list[str]:
        """npm's commands of one run."""
        (tmp_path / "calls").write_text("")
        environment = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
        subprocess.run([str(FILES / "phoenix-stage"), "lint"], cwd=tmp_path, env=environment, check=True)
        return (tmp_path / "calls").read_text().splitlines()

    assert lint() == [command, "run lint"]
    assert lint() == ["run lint"]
    for name in ({"package.json", *locks} - {changed}) | {"server.js"}:
        (tmp_path / name).write_text('{"other": 1}')
    assert lint() == ["run lint"]
    (tmp_path / changed).write_text('{"other": 1}')
    assert lint() == [command, "run lint"]
