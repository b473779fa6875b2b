"""The action plugin packages: a host that has them all runs no module, and what is missing is apt's to install."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.plugins import action


class Host:
    """Stands for a host: what dpkg lists there, and what apt answers; keeps what each was asked."""

    def __init__(self, listed: str, **answer: Any) -> None:
        self.listed, self.answer = listed, answer
        self.commands, self.installs = list[str](), list[dict[str, Any]]()
        self.shown = list[str]()

    def command(self, command: str, in_data: bytes) -> dict[str, Any]:
        assert in_data, "otherwise it has a terminal"
        self.commands.append(command)
        return {"rc": 1, "stdout": self.listed, "stderr": "dpkg-query: no packages found matching age\n"}

    def module(self, name: str, module_args: dict[str, Any], **_: Any) -> dict[str, Any]:
        assert name == "ansible.legacy.apt"
        self.installs.append(module_args)
        return self.answer

    def install(self, *names: str, check: bool = False, **options: Any) -> dict[str, Any]:
        plugin = action("packages", {"name": list(names), **options}, check=check)
        plugin._low_level_execute_command, plugin._execute_module = self.command, self.module
        plugin._display = SimpleNamespace(display=self.shown.append)
        result: dict[str, Any] = plugin.run(task_vars={"inventory_hostname": "db1"})
        return result


def test_a_host_that_has_them_all_runs_no_module() -> None:
    host = Host("ii git\nhi openssh-client\n")
    result = host.install("git", "openssh-client")
    assert (result["changed"], host.installs) == (False, [])
    # The format is dpkg's to read, not the shell's.
    assert host.commands == ["dpkg-query --show '--showformat=${db:Status-Abbrev}${Package}\\n' git openssh-client"]


@pytest.mark.parametrize("listed", ["", "rc age\n", "ii agent\n", "un age\n", "iiRage\n"])
def test_what_is_not_installed_is_apts_to_install(listed: str) -> None:
    host = Host(f"{listed}ii git\n", changed=True)
    assert host.install("git", "age", start=False)["changed"]
    (asked,) = host.installs
    assert (asked["name"], asked["policy_rc_d"], asked["install_recommends"]) == (["age"], 101, False)


def test_apt_decides_about_what_dpkg_does_not_know_by_this_name() -> None:
    """A version, or what several packages provide."""
    host = Host("ii age\n", changed=False)
    result = host.install("age=1.1.1-1", "awk")
    assert not result["changed"] and host.installs[0]["name"] == ["age=1.1.1-1", "awk"]
    assert "policy_rc_d" not in host.installs[0]


def test_a_failure_is_apts_own() -> None:
    host = Host("", failed=True, msg="python3-apt could not be installed")
    assert host.install("age")["failed"]


@pytest.mark.parametrize(
    "answer",
    [
        {"failed": True, "msg": "python3-apt must be installed to use check mode."},
        {"failed": True, "msg": "No package matching 'age' is available"},
        {"changed": True},
    ],
)
def test_a_dry_run_names_what_it_would_install(answer: dict[str, Any]) -> None:
    """On a bare host, too, which lacks the bindings that apt reads its cache by, or the lists of packages."""
    host = Host("ii git\n", **answer)
    result = host.install("git", "age", check=True)
    assert result["changed"] and not result.get("failed")
    assert host.shown == ["db1: would install age"]


def test_a_dry_run_changes_nothing_where_apt_finds_nothing_to_do() -> None:
    host = Host("", changed=False)
    assert not host.install("awk", check=True)["changed"] and not host.shown


def test_a_dry_run_fails_as_apt_does() -> None:
    host = Host("", failed=True, msg="The lock is held")
    assert host.install("age", check=True)["failed"]
