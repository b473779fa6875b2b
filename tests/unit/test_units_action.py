"""The action plugin units: which units of a host it leaves alone, and what it has systemd do with the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.unit.plugins import action

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


def test_no_units_are_no_question() -> None:
    host = Host()
    assert host.want() == {"changed": False} and not host.commands
