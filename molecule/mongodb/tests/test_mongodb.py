"""The promises of the role `mongodb`, checked on a replica set of one member."""

import json
import shlex
from typing import Any

import pytest
from testinfra.host import Host

from tests.harness.hosts import PYTHON_WITH_DRIVER, pid_of, remote
from tests.harness.waiting import wait_for

UNAUTHORIZED, AUTHENTICATION_FAILED = 13, 18
PASSWORDS = {name: f"{name}'s password of the scenario" for name in ("admin", "app", "backup", "monitor")}
INSERT = {"insert": "kept", "documents": [{"number": 1}], "writeConcern": {"w": "majority"}}


def command(host: Host, user: str, password: str, database: str, words: dict[str, Any]) -> Any:
    """Return the member's answer to a command; the passwords are the scenario's and not secrets."""
    order = json.dumps({"user": user, "password": password, "database": database, "command": words})
    program = remote("database_command", runner=PYTHON_WITH_DRIVER)
    return json.loads(host.check_output(f"printf %s {shlex.quote(order)} | {{ {program}; }}"))


def as_app(host: Host, words: dict[str, Any], database: str = "phoenix") -> Any:
    return command(host, "phoenix", PASSWORDS["app"], database, words)


def is_primary(host: Host) -> Any:
    return host.run(remote("primary", runner=PYTHON_WITH_DRIVER)).stdout.strip() == "True"


def kept(host: Host) -> Any:
    """Count the documents that the application wrote; without a query it would be an estimate, wrong after a kill."""
    return as_app(host, {"count": "kept", "query": {"number": 1}})["n"]


def test_member_is_primary(host: Host) -> None:
    assert is_primary(host)
    status = command(host, "monitor", PASSWORDS["monitor"], "admin", {"replSetGetStatus": 1})
    assert [(member["name"], member["stateStr"]) for member in status["members"]] == [("127.0.0.1:27017", "PRIMARY")]


def test_nothing_without_a_login(host: Host) -> None:
    assert command(host, "", "", "admin", {"listDatabases": 1})["code"] == UNAUTHORIZED
    assert command(host, "", "", "phoenix", INSERT)["code"] == UNAUTHORIZED


@pytest.mark.parametrize("user", ["admin", "phoenix", "backup", "monitor"])
def test_users_log_in_with_their_password_alone(host: Host, user: str) -> None:
    password = PASSWORDS["app" if user == "phoenix" else user]
    assert command(host, user, password, "admin", {"ping": 1})["ok"] == 1
    assert command(host, user, f"not {password}", "admin", {"ping": 1})["code"] == AUTHENTICATION_FAILED


def test_application_may_use_its_database_and_no_other(host: Host) -> None:
    assert as_app(host, INSERT)["n"] == 1
    assert as_app(host, INSERT, "other")["code"] == UNAUTHORIZED
    assert as_app(host, {"find": "system.users"}, "admin")["code"] == UNAUTHORIZED
    assert command(host, "monitor", PASSWORDS["monitor"], "phoenix", {"find": "kept"})["code"] == UNAUTHORIZED


def test_requested_restart_took_place(host: Host) -> None:
    """side_effect.yml requests it."""
    before = int(host.check_output("cat /var/lib/mongodb/pid-before"))
    assert before > 0
    assert pid_of(host, "mongod") not in (0, before)
    assert not host.file("/var/lib/mongodb/.restart-needed").exists


@pytest.mark.parametrize("how", ["systemctl restart mongod", "systemctl kill --signal=KILL mongod"])
def test_member_is_primary_with_its_data_after_a_restart(host: Host, how: str) -> None:
    assert as_app(host, INSERT)["n"] == 1
    before, documents = pid_of(host, "mongod"), kept(host)
    assert host.run(how).rc == 0
    wait_for(lambda: pid_of(host, "mongod") not in (0, before), 60, "another process")
    wait_for(lambda: is_primary(host), 60, "a primary")
    assert kept(host) == documents > 0


def test_rotated_log_is_left_for_a_new_one(host: Host) -> None:
    log = host.file("/var/log/mongodb/mongod.log")
    host.check_output("logrotate --force /etc/logrotate.d/mongod")
    wait_for(lambda: log.exists, 10, "the new log")
    before = log.size
    command(host, "", "", "admin", {"listDatabases": 1})
    wait_for(lambda: log.size > before, 10, "a line of the new log")


def test_secrets_are_the_servers_alone(host: Host) -> None:
    key = host.file("/etc/mongod.key")
    assert (key.user, key.mode) == ("mongodb", 0o400)
    lines = host.check_output("cat /proc/[0-9]*/cmdline | tr '\\0' ' '; journalctl -u mongod -o cat")
    assert "mongod --config /etc/mongod.conf" in lines
    assert "password of the scenario" not in lines and "keyfile+of+the+scenario" not in lines
