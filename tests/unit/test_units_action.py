"""The action plugin units: which units of a host it leaves alone, and what it has systemd do with the others."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.unit.plugins import action
from tests.unit.shared import ROLES, TOP, read_yaml

RUNNING = ("active", "enabled")
STOPPED = ("inactive", "disabled")
MISSING = ("inactive", "")


class Host:
    """Stands for a host: what systemctl shows of its units; keeps what the module is asked to do."""

    def __init__(self, *units: tuple[str, str], failing: str = "") -> None:
        blocks = [f"Id=x\nActiveState={active}\nUnitFileState={file}\n" for active, file in units]
        self.shown, self.failing = "\n".join(blocks), failing
        self.commands, self.done = list[str](), list[dict[str, Any]]()

    def command(self, command: str, in_data: bytes) -> dict[str, Any]:
        assert in_data, "otherwise it has a terminal"
        self.commands.append(command)
        failed = self.failing == "systemctl"
        return {"rc": int(failed), "stdout": self.shown, "stderr": "no bus\n" if failed else ""}

    def module(self, name: str, module_args: Mapping[str, Any], **_: Any) -> dict[str, Any]:
        assert name == "ansible.legacy.systemd_service"
        self.done.append(dict(module_args))
        return {"failed": True, "msg": "it ended"} if module_args["name"] == self.failing else {"changed": True}

    def want(self, *names: str, check: bool = False, **options: Any) -> dict[str, Any]:
        plugin = action("units", {"name": list(names), **options}, check=check)
        plugin._low_level_execute_command, plugin._execute_module = self.command, self.module
        result: dict[str, Any] = plugin.run(task_vars={})
        return result

    def states(self) -> list[tuple[str, str, bool, bool]]:
        return [(one["name"], one["state"], one["enabled"], one["daemon_reload"]) for one in self.done]


@pytest.mark.parametrize("running", [True, False])
def test_units_that_are_as_wanted_are_left_alone(running: bool) -> None:
    seen = [RUNNING, ("activating", "static")] if running else [STOPPED, MISSING]
    host = Host(*seen)
    assert host.want("a.timer", "b.service", running=running, changed=False) == {"changed": False}
    assert host.commands == ["systemctl show --no-pager --property=Id,ActiveState,UnitFileState -- a.timer b.service"]
    assert host.done == []


@pytest.mark.parametrize("seen", [STOPPED, ("active", "disabled"), ("failed", "enabled"), MISSING])
def test_the_others_are_started_now_and_at_boot(seen: tuple[str, str]) -> None:
    host = Host(RUNNING, seen)
    assert host.want("a.timer", "b.service")["changed"]
    assert host.states() == [("b.service", "started", True, False)]


@pytest.mark.parametrize("seen", [RUNNING, ("inactive", "enabled"), ("active", "static"), ("deactivating", "disabled")])
def test_units_that_are_not_wanted_are_stopped_and_disabled(seen: tuple[str, str]) -> None:
    host = Host(MISSING, seen)
    assert host.want("a.path", "b.timer", running=False)["changed"]
    assert host.states() == [("b.timer", "stopped", False, False)]


def test_changed_ones_are_read_again_once_and_all_restarted() -> None:
    host = Host(RUNNING, STOPPED)
    assert host.want("a.timer", "b.timer", changed=True)["changed"]
    assert host.states() == [("a.timer", "restarted", True, True), ("b.timer", "restarted", True, False)]


def test_what_others_restart_is_only_started() -> None:
    """As a database member, of which one at a time may be."""
    host = Host(RUNNING)
    assert not host.want("mongod.service", changed=True, restart=False)["changed"] and not host.done
    # Who restarts it finds its new files read.
    assert host.commands[1:] == ["systemctl daemon-reload"]
    host = Host(STOPPED)
    host.want("mongod.service", changed=True, restart=False)
    assert host.states() == [("mongod.service", "started", True, True)]


@pytest.mark.parametrize(("changed", "expected"), [(False, False), (True, True)])
def test_a_dry_run_changes_nothing(changed: bool, expected: bool) -> None:
    host = Host(RUNNING)
    assert host.want("a.timer", check=True, changed=changed)["changed"] is expected
    host = Host(MISSING)
    assert host.want("new.timer", check=True, changed=True)["changed"] and not host.done


def test_the_first_that_fails_ends_it() -> None:
    host = Host(STOPPED, STOPPED, failing="a.timer")
    result = host.want("a.timer", "b.timer")
    assert result["failed"] and result["msg"] == "it ended" and len(host.done) == 1


def test_a_systemd_that_does_not_answer_is_an_error() -> None:
    assert Host(RUNNING, failing="systemctl").want("a.timer")["msg"] == "no bus"


def test_lines_that_are_no_property_are_nobodys() -> None:
    host = Host(RUNNING, STOPPED)
    host.shown = f"sudo: unable to resolve host\r\n{host.shown}"
    host.want("a.timer", "b.timer")
    assert host.states() == [("b.timer", "started", True, False)]


def timestamps(**seconds: int) -> str:
    """As `systemctl show` prints them of a unit, in UTC; 0 for what never was."""
    moments = {
        name: datetime.fromtimestamp(at, UTC).strftime("%a %Y-%m-%d %H:%M:%S UTC") if at else ""
        for name, at in seconds.items()
    }
    return "".join(f"{name}={at}\n" for name, at in moments.items())


def service(started: int, active: str = "active") -> str:
    # What is of the service alone comes before what every unit has.
    start = timestamps(ExecMainStartTimestamp=started)
    ready = timestamps(ActiveEnterTimestamp=started and started + 40)
    return f"{start}Id=x\nActiveState={active}\nUnitFileState=enabled\n{ready}"


def timer(started: int) -> str:
    return f"Id=x\nActiveState=active\nUnitFileState=enabled\n{timestamps(ActiveEnterTimestamp=started)}"


def host(written: int, *units: str) -> Host:
    made = Host()
    made.shown = f"Modified=100\nModified={written}\n" + "\n".join(units)
    return made


def test_what_was_started_before_its_files_were_written_is_restarted() -> None:
    """A run that was cut has written them, and the next one finds nothing changed."""
    one = host(2000, service(2000), service(1999), timer(1999), service(0))
    assert one.want("a.service", "b.service", "c.timer", "new.service", files=["/a", "/b"])["changed"]
    assert one.states() == [("b.service", "restarted", True, True), ("c.timer", "restarted", True, False)]
    again = host(2000, service(2000), service(2001), timer(2001), service(0))
    assert again.want("a.service", "b.service", "c.timer", "new.service", files=["/a"]) == {"changed": False}
    assert not again.done


def test_what_is_stopped_and_has_not_read_its_files_is_started_with_them() -> None:
    one = host(2000, service(1000, "failed"))
    assert one.want("a.service", files=["/a"])["changed"]
    assert one.states() == [("a.service", "restarted", True, True)]


def test_a_dry_run_says_what_has_not_read_its_files() -> None:
    one = host(2000, service(1000))
    assert one.want("a.service", files=["/a"], check=True)["changed"] and not one.done


@pytest.mark.parametrize("options", [{"restart": False}, {"running": False}])
def test_files_are_no_question_where_nothing_is_restarted(options: dict[str, bool]) -> None:
    one = Host(RUNNING if options.get("running", True) else STOPPED)
    assert not one.want("a.service", files=["/a"], **options)["changed"]
    assert one.commands == ["systemctl show --no-pager --property=Id,ActiveState,UnitFileState -- a.service"]


def test_the_files_times_are_asked_for_with_the_units(tmp_path: Path) -> None:
    """By one command: of a link it is its own, and a file that is missing has none."""
    (tmp_path / "bin").mkdir()
    systemctl = tmp_path / "bin" / "systemctl"
    systemctl.write_text(f'#!/bin/sh\n[ "$TZ" = UTC ] && echo "{timer(3000).strip()}" || exit 3\n')
    systemctl.chmod(0o755)
    (tmp_path / "target").touch()
    (tmp_path / "link with blanks").symlink_to("target")
    os.utime(tmp_path / "target", (5000, 5000))

    def run(command: str, in_data: bytes) -> dict[str, Any]:
        environment = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "TZ": "Asia/Tokyo"}
        done = subprocess.run(["sh", "-c", command], env=environment, input=in_data, capture_output=True, check=False)
        return {"rc": done.returncode, "stdout": done.stdout.decode(), "stderr": done.stderr.decode()}

    one = Host()
    one.command = run  # type: ignore[method-assign]
    names = [str(tmp_path / name) for name in ("link with blanks", "missing")]
    for at, expected in ((3000, False), (3001, True)):
        os.utime(names[0], (at, at), follow_symlinks=False)
        assert one.want("a.timer", files=names)["changed"] is expected
    assert not one.want("a.timer", files=names[1:])["changed"]
    systemctl.write_text("#!/bin/sh\necho no bus >&2\nexit 1\n")
    assert one.want("a.timer", files=names)["msg"] == "no bus"


# Which this option is still to come to.
WITHOUT_FILES = {"backup", "drills", "nginx", "reconcile"}


@pytest.mark.parametrize("role", sorted(set(ROLES) - WITHOUT_FILES))
def test_a_role_that_restarts_units_for_their_files_names_these(role: str) -> None:
    """Otherwise a run that is cut leaves the former settings in force, and no later one says so."""
    tasks = [
        task["units"]
        for path in (TOP / "roles" / role / "tasks").glob("*.yml")
        for task in read_yaml(path)
        if "units" in task
    ]
    assert [
        one["name"] for one in tasks if "changed" in one and one.get("restart", True) and not one.get("files")
    ] == []


def test_no_units_are_no_question() -> None:
    host = Host()
    assert host.want() == {"changed": False} and not host.commands
