"""A one-off command: what the shell is given, and what its unit takes from that of the instances."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from phoenix.common import systemd
from phoenix.instances import command, paths
from phoenix.state import turn

PACKAGE: dict[str, Any] = {
    "name": "a",
    "version": "1.0.0",
    "scripts": {
        "premigrate": "echo before",
        "migrate": "echo migrate $npm_package_name $npm_lifecycle_event",
        "postmigrate": "echo after",
        "fail": "exit 3",
        "postfail": "echo never",
    },
}


def shell(*words: str) -> subprocess.CompletedProcess[str]:
    text = command.shell_text(PACKAGE, words)
    return subprocess.run(
        ["sh", "-c", text], env={"PATH": "/bin:/usr/bin"}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("words", "output"),
    [
        (("npm run migrate",), "before\nmigrate a migrate\nafter\n"),
        (("npm", "run", "migrate", "--", "--to", "5 6"), "before\nmigrate a migrate --to 5 6\nafter\n"),
        (("npm run migrate --if-present -- --to 5",), "before\nmigrate a migrate --to 5\nafter\n"),
        (("npm run --if-present migrate",), "before\nmigrate a migrate\nafter\n"),
        (("npm run absent --if-present",), ""),
        (("npm run migrate -- --if-present",), "before\nmigrate a migrate --if-present\nafter\n"),
        (("echo $npm_package_version; echo 2",), "1.0.0\n2\n"),
        (("echo", "$HOME;", "a b"), "$HOME; a b\n"),
    ],
)
def test_a_script_runs_as_npm_runs_it_and_a_command_as_it_is(words: tuple[str, ...], output: str) -> None:
    assert shell(*words).stdout == output


@pytest.mark.parametrize(
    ("words", "last"),
    [
        (("node worker.js --a=$B",), "exec node worker.js --a=$B"),
        (("npm run fail",), "(exit 3) && (echo never)"),
        (("cd a",), "cd a"),
        (("A=1 node b",), "A=1 node b"),
        (("node a; node b",), "node a; node b"),
        (("npm run worker",), "exec node worker.js"),
    ],
)
def test_a_single_program_replaces_the_shell_and_gets_signals_itself(words: tuple[str, ...], last: str) -> None:
    package = {"scripts": {**PACKAGE["scripts"], "worker": "node worker.js"}}
    assert command.shell_text(package, words).endswith(f"; {last}")


def test_a_script_that_fails_ends_it_with_its_status() -> None:
    done = shell("npm run fail")
    assert (done.returncode, done.stdout) == (3, "")


def test_a_script_that_may_be_absent_succeeds_without_it_but_not_as_what_has_to_go_on() -> None:
    assert shell("npm run absent --if-present").returncode == 0
    with pytest.raises(command.CommandError, match="no script 'absent'"):
        command.shell_text(PACKAGE, ["npm run absent --if-present"], lasting=True)


@pytest.mark.parametrize("words", [("npm run migrat",), ("npm", "run"), ("npm run --if-present",)])
def test_a_script_that_is_not_there_is_refused_with_those_that_are(words: tuple[str, ...]) -> None:
    with pytest.raises(command.CommandError, match="it has premigrate, migrate"):
        command.shell_text(PACKAGE, words)


UNIT = """# comment
[Unit]
Description=instance %i
[Service]
Type=simple
User=phoenix
# Environment=COMMENTED=1
Environment=NODE_ENV=production PORT=%i
EnvironmentFile=/etc/phoenix/phoenix.env
ExecStart=/opt/phoenix/instances/%i/.phoenix-start
Restart=always
RestartSec=0
MemoryMax=256M
[Install]
WantedBy=multi-user.target
"""


def test_the_instances_user_limits_and_environment_are_taken_and_their_program_is_not() -> None:
    assert command.settings(UNIT) == [
        "User=phoenix",
        "Environment=NODE_ENV=production PORT=0",
        "EnvironmentFile=/etc/phoenix/phoenix.env",
        "MemoryMax=256M",
    ]


def test_the_accepted_configuration_counts_and_before_there_is_one_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TEMPLATE", "CONFIGURATIONS", "CONFIGURATION"):
        monkeypatch.setattr(command, name, tmp_path / name)
    with pytest.raises(command.CommandError, match=r"site\.yml"):
        command.unit_settings()
    (tmp_path / "TEMPLATE").write_text(UNIT)
    assert command.unit_settings()[2] == "EnvironmentFile=/etc/phoenix/phoenix.env"
    for number, name in enumerate(("old", "new")):
        folder = tmp_path / "CONFIGURATIONS" / name
        folder.mkdir(parents=True)
        (folder / "unit.conf").write_text(f"[Service]\nTasksMax={number}\n")
        (folder / "environment").write_text("")
        os.utime(folder, (number, number))
    assert command.unit_settings()[-2:] == ["TasksMax=1", f"EnvironmentFile={tmp_path}/CONFIGURATIONS/new/environment"]
    (tmp_path / "CONFIGURATION").symlink_to(tmp_path / "CONFIGURATIONS" / "old")
    found = command.unit_settings()
    assert found[-2:] == ["TasksMax=0", f"EnvironmentFile={tmp_path}/CONFIGURATION/environment"]
    assert [one for one in found if one.startswith("EnvironmentFile=")] == found[-1:]


def test_values_of_the_shells_variables_are_left_to_the_shell() -> None:
    line = command.line("echo $HOME", Path("/opt/x"), ["User=phoenix"], 60, False, "phoenix-command")
    assert line[-3:] == ["/bin/sh", "-c", "echo $$HOME"]
    assert {"--property=RuntimeMaxSec=60", "--property=WorkingDirectory=/opt/x", "--property=User=phoenix"} <= set(line)


def test_a_release_that_is_not_there_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(paths, "RELEASES", tmp_path)
    assert command.main(["--release", "1.0.0", "true"]) == 1
    assert "has to be unpacked first" in capsys.readouterr().err
    (tmp_path / "1.0.0").mkdir()
    (tmp_path / "1.0.0" / ".phoenix-start").touch()
    (tmp_path / "1.0.0" / "package.json").write_text(json.dumps(PACKAGE))
    assert command.main(["--release", "1.0.0", "npm run other"]) == 1
    assert "no script 'other'" in capsys.readouterr().err


@dataclass
class Units:
    """Processes in place of transient units. stopped: which units were; then: what happens once one has begun."""

    stopped: list[str] = field(default_factory=list)
    then: Callable[[], None] = lambda: None


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Units:
    """A release on this host."""
    monkeypatch.setattr(paths, "RELEASES", tmp_path)
    monkeypatch.setattr(turn, "FOLDER", tmp_path / "turn")
    monkeypatch.setattr(command, "POLL_S", 0.01)
    folder = tmp_path / "1.0.0"
    folder.mkdir()
    (folder / ".phoenix-start").touch()
    (folder / "package.json").write_text(json.dumps(PACKAGE))
    running: dict[str, subprocess.Popen[bytes]] = {}
    found = Units()
    original = subprocess.Popen

    def popen(words: list[str]) -> subprocess.Popen[bytes]:
        running[words[-1]] = original(words[:-1])
        found.then()
        return running[words[-1]]

    def stop(unit: str) -> None:
        found.stopped.append(unit)
        if unit in running:
            running[unit].kill()

    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setattr(command, "_stop", stop)
    monkeypatch.setattr(command, "unit_settings", list)
    monkeypatch.setattr(command, "line", lambda text, *others: ["sh", "-c", text, others[-1]])
    return found


def test_a_plays_command_ends_when_the_next_play_comes(started: Units) -> None:
    started.then = lambda: turn.enter("2-b")
    with pytest.raises(turn.Superseded):
        command.run(["sleep 60"], "1.0.0", 600, "1-a")
    assert started.stopped == ["phoenix-release-command"] * 2, "that of a dead play, and its own"


def test_a_plays_command_has_its_status_and_a_late_one_does_not_run(started: Units, tmp_path: Path) -> None:
    assert command.run(["exit 3"], "1.0.0", 600, "2-b") == 3
    with pytest.raises(turn.Superseded):
        command.run([f"touch {tmp_path}/ran"], "1.0.0", 600, "1-a")
    assert not (tmp_path / "ran").exists()


def test_of_two_commands_by_hand_the_second_leaves_the_first_alone(
    started: Units, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "show", lambda *_: [{"ActiveState": "active"}])
    with pytest.raises(command.CommandError, match=r"another command runs: .* systemctl stop phoenix-command"):
        command.run(["true"], "1.0.0", 0)
    assert started.stopped == []
    monkeypatch.setattr(systemd, "show", lambda *_: [{"ActiveState": "inactive"}])
    assert command.run(["true"], "1.0.0", 0) == 0
