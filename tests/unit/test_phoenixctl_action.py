"""The action plugin phoenixctl: what it runs through the connection, and what it returns."""

from __future__ import annotations

from typing import Any

import pytest

from phoenix import __version__
from tests.unit.plugins import action


class Host:
    """Stands for the connection: answers each command in the same way, and keeps what it was asked."""

    def __init__(self, **answer: Any) -> None:
        self.answer = {"rc": 0, "stdout": "", "stderr": ""} | answer
        self.asked: list[tuple[str, bytes]] = []

    def run(self, command: str, in_data: bytes) -> dict[str, Any]:
        self.asked.append((command, in_data))
        return self.answer


def run(host: Host, *, check: bool = False, **arguments: Any) -> dict[str, Any]:
    plugin = action("phoenixctl", arguments, check=check)
    plugin._low_level_execute_command = host.run
    result: dict[str, Any] = plugin.run(task_vars={"inventory_hostname": "db1"})
    return result


def test_words_are_quoted_and_the_answer_is_that_of_a_command() -> None:
    host = Host(stdout='{"a": 1}\n', stderr="careful\r\n")
    result = run(host, argv=["state", "record", "a b; reboot"])
    assert host.asked == [("/usr/local/bin/phoenixctl state record 'a b; reboot'", b"\n")]
    assert (result["rc"], result["stdout"], result["stderr_lines"]) == (0, '{"a": 1}', ["careful"])
    assert result["changed"] and "failed" not in result


def test_standard_input_is_passed_as_it_is() -> None:
    host = Host()
    run(host, argv=["upstreams", "apply"], stdin="upstream phoenix {\n}")
    assert host.asked[0][1] == b"upstream phoenix {\n}"


@pytest.mark.parametrize(("stderr", "message"), [("held by ann", "held by ann"), ("", "ended with 75")])
def test_a_failure_says_what_the_program_says(stderr: str, message: str) -> None:
    result = run(Host(rc=75, stderr=stderr), argv=["lock", "acquire"])
    assert result["failed"] and result["rc"] == 75 and message in result["msg"]


@pytest.mark.parametrize(
    ("rc", "version", "told"), [(2, "0.13.0-1", True), (64, "0.13.0-1", True), (2, "", False), (1, "0.13.0-1", False)]
)
def test_a_package_that_does_not_know_a_word_is_named_where_it_is_older(rc: int, version: str, told: bool) -> None:
    host = Host(rc=rc, stdout=f"phoenixctl {version or __version__}", stderr="unrecognized arguments: --new")
    result = run(host, argv=["logs", "--new"])
    assert result["failed"] and result["msg"].startswith("unrecognized arguments: --new")
    assert ("db1 has Phoenix's package 0.13.0-1, this play is of" in result["msg"]) is told


def test_a_host_without_the_program_is_skipped_only_on_request() -> None:
    missing = Host(rc=127, stderr="sh: 1: /usr/local/bin/phoenixctl: not found")
    assert run(missing, argv=["state", "show"])["failed"]
    result = run(missing, argv=["state", "show"], if_installed=True)
    assert result["rc"] == 0 and not result["changed"] and result["stdout"].startswith("skipped")


def test_nothing_runs_in_check_mode() -> None:
    host = Host()
    assert run(host, check=True, argv=["lock", "release"])["skipped"] and not host.asked
