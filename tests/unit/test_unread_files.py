"""What a run that was cut has written is read with the next run: the module, and the roles that ask by it."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.harness.plays import PLAYBOOK
from tests.unit.shared import TOP, inputs, read_yaml, run_ansible

START_S, RELOAD_S = 100.0, 50.0  # before now


def shown(started: float, changed: float) -> str:
    """Output of `systemctl show`, in its order."""
    return f"ExecMainStartTimestampMonotonic={started:.0f}\nStateChangeTimestampMonotonic={changed:.0f}\n"


def test_files_that_are_newer_than_their_reader_are_reported(tmp_path: Path) -> None:
    now = time.time()
    for name, age in {"read": START_S + 5, "reloaded": START_S - 5, "unread": RELOAD_S - 5}.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (now - age, now - age))
    started = time.monotonic() - START_S
    (tmp_path / "running.service").write_text(shown(started * 1e6, (started + START_S - RELOAD_S) * 1e6))
    (tmp_path / "new.service").write_text(shown(0, 0))
    (tmp_path / "systemctl").write_text('#!/bin/sh\nfor unit; do :; done\nexec cat "${0%/*}/$unit"\n')
    (tmp_path / "systemctl").chmod(0o755)
    files = [str(tmp_path / name) for name in ("read", "reloaded", "unread", "missing")]
    cases: list[dict[str, Any]] = [
        {"unit": "running.service", "files": files},
        {"unit": "running.service", "files": files, "reload": True},
        {"unit": "running.service", "files": files[:1]},
        {"unit": "new.service", "files": files},
    ]
    tasks = [{"unread_files": case, "register": f"case{number}"} for number, case in enumerate(cases)]
    results = ", ".join(f"case{number}" for number in range(len(cases)))
    write = {"ansible.builtin.copy": {"content": f"{{{{ [{results}] | to_json }}}}", "dest": str(tmp_path / "seen")}}
    play = {
        "hosts": "localhost",
        "connection": "local",
        "become": False,
        "gather_facts": False,
        "environment": {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        "tasks": [*tasks, write],
    }
    (tmp_path / "play.json").write_text(json.dumps([play]))
    done = run_ansible(PLAYBOOK, "-i", "localhost,", tmp_path / "play.json")
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads((tmp_path / "seen").read_text())
    assert [[Path(path).name for path in result["changed_paths"]] for result in seen] == [
        ["reloaded", "unread"],
        ["unread"],
        [],
        [],
    ]
    assert [result["changed"] for result in seen] == [True, True, False, False]


@pytest.mark.parametrize(
    ("role", "handler"),
    [
        ("autoscaler", "Reload the autoscaler"),
        ("jenkins", "Restart Jenkins"),
        ("keepalived", "Restart keepalived"),
        ("keepalived", "Reload keepalived"),
        ("netdata", "Restart Netdata"),
        ("nginx", "Restart nginx"),
    ],
)
def test_what_a_handler_is_for_notifies_it_also_where_an_earlier_run_has_written_it(role: str, handler: str) -> None:
    tasks = read_yaml(TOP / "roles" / role / "tasks" / "configure.yml")
    asks = [task for task in tasks if "unread_files" in task and handler in task["notify"]]
    (task,) = asks
    (restart,) = (one for one in read_yaml(TOP / "roles" / role / "handlers" / "main.yml") if one["name"] == handler)
    module = restart["ansible.builtin.systemd_service"]
    assert module["name"] == task["unread_files"]["unit"]
    assert (module["state"] == "reloaded") is task["unread_files"].get("reload", False)
    assert "reload" in handler.lower() or tasks.index(task) > max(
        number for number, one in enumerate(tasks) if handler in one.get("notify", []) and one is not task
    )
    # A handler that goes by what changed goes by this as well.
    if "_changed" in str(restart.get("when")) and "register" in task:
        assert f"{task['register']}.changed_paths" in inputs(role)[f"__{role}_changed"]


def test_the_notifier_is_restarted_for_recipients_that_it_has_not_read() -> None:
    """It reads them once, when it starts: alarms went to the former ones after a run that was cut."""
    tasks = {one["units"]["name"][0]: one for one in read_yaml(TOP / "roles" / "alerting" / "tasks" / "service.yml")}
    variables = inputs("alerting")
    paths = [file["path"] for name in ("files", "secret_files") for file in variables[f"__alerting_{name}"]]
    read = [path for path in paths if re.match(variables["__alerting_notifier_reads"], path)]
    assert set(read) == {"/etc/phoenix/notify.json", "/etc/systemd/system/phoenix-notify.service"}
    assert "__alerting_notifier_reads" in tasks["phoenix-notify.service"]["units"]["files"]
    assert set(paths) - set(read) == {*tasks["netdata.service"]["units"]["files"], "/usr/local/lib/phoenix/alarm-event"}
    assert "__alerting_deadman_files" in tasks["phoenix-deadman.timer"]["units"]["files"]


def test_netdata_is_restarted_for_what_it_reads_alone() -> None:
    """The status page's units are written with its files, and would be newer than its process for good."""
    variables = inputs("netdata")
    paths = [file["path"] for name in ("files", "secret_files") for file in variables[f"__netdata_{name}"]]
    read = [path for path in paths if re.match(variables["__netdata_read"], path)]
    assert {"/etc/netdata/stream.conf", "/etc/systemd/system/netdata.service.d/phoenix.conf"} < set(read)
    assert "/var/lib/netdata/cloud.d/cloud.conf" not in read
    assert not re.match(variables["__netdata_read"], "/etc/systemd/system/phoenix-page.service")
