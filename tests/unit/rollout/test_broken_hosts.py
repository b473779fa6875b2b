"""Application hosts that answer by SSH and are broken: the role's own tasks, run with a stand-in for ssh."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.harness.plays import PLAYBOOK
from tests.unit.shared import TOP, run_ansible

# The hosts. broken: from its how many-th command on each that is can't enter the lock's turn; sick: the release fails
# requests.
SSH = f"""#!{sys.executable}
import json, os, pathlib, shlex, sys
top = pathlib.Path(__file__).parent
fleet = json.loads((top / "fleet.json").read_text())
host = next(name for name in fleet["hosts"] if name in sys.argv)
if "test -w" in sys.argv[-1]:
    sys.exit(host in fleet["broken"])
if "phoenixctl" not in sys.argv[-1]:  # a module
    os.execv("/bin/sh", ["sh", "-c", sys.argv[-1]])
words = shlex.split(shlex.split(sys.argv[-1])[-1].partition(" && ")[0])
words = words[words.index("/usr/local/bin/phoenixctl") + 1 :]
with (top / "log").open("a") as log:
    log.write(json.dumps([host, *words]) + "\\n")
option = lambda name: next((words[at + 1] for at, word in enumerate(words) if word == name), "")
verb = " ".join(word for word in words[:2])
release = top / f"release.{{host}}"
if words[0] == "instances" and any(word.startswith("--lock=") for word in words):
    asked = sum(json.loads(line)[0] == host for line in (top / "log").read_text().splitlines())
    if host == fleet.get("superseded"):
        print("Another play has taken the fleet's lock", file=sys.stderr)
        sys.exit(76)
    if asked >= fleet["broken"].get(host, 1000):
        print("Traceback (most recent call last):\\n  File x\\nOSError: [Errno 30] Read-only file system: 'guard'",
              file=sys.stderr)
        sys.exit(1)
if verb == "state show":
    print(json.dumps(fleet["state"]))
elif verb == "deploys previous":
    print("r1")
elif verb == "lock acquire":
    print("7-0123")
elif verb == "deploys begin":
    print(1)
elif verb == "instances status":
    runs = release.read_text()
    instances = [{{"port": 3000, "active": True, "release": runs, "configuration": "c", "healthy": True,
                   "stale": runs != option("--release")}}] if host in fleet["serving"] else []
    print(json.dumps({{"current": runs, "releases": ["r1", "r2"], "checksums": {{}}, "used": [], "kept": ["r1", "r2"],
                       "configuration": "c", "configurations": ["c"], "processes": [], "instances": instances}}))
elif verb == "instances switch":
    release.write_text(option("--release"))
    print('{{"changed": []}}')
elif verb == "instances memory":
    print('{{"3000": {{"samples": []}}}}')
elif verb in ("upstreams set", "state record"):
    print('{{"changed": true}}')
elif verb == "requests sample":
    print("[]")
elif verb == "job start":
    print(words[2])
elif words[:3] == ["job", "wait", "requests"]:
    failed = 50 if fleet["sick"] else 0
    seen = {{"requests": 100, "errors": failed, "kinds": {{"page": {{"5": 100 - failed}}}}}}
    print(json.dumps({{"servers": {{"192.0.2.21:3000": seen}}}}))
elif words[:2] == ["job", "wait"]:
    print('{{"3000": {{"samples": [], "ended": 0, "max_mb": 0}}}}')
else:
    print('{{"changed": []}}')
"""
ADDRESSES = {"app1": "192.0.2.21", "app2": "192.0.2.22", "app3": "192.0.2.23"}
WHY = "OSError: [Errno 30] Read-only file system: 'guard'"


class Fleet:
    """app1 and app2 serve r2, app3 is an empty standby host; broken: each with the question from which on it is."""

    def __init__(self, folder: Path, broken: dict[str, int], *, sick: bool = False, superseded: str = "") -> None:
        self.folder = folder
        state = {
            "capacity": 2, "release": "r2", "configuration": dict.fromkeys(ADDRESSES, "c"), "drained": {},
            "maintenance": False, "demand": [], "away": {}, "lost": {},
        }  # fmt: skip
        fleet = {"hosts": ["control1", "lb1", *ADDRESSES], "serving": ["app1", "app2"], "state": state}
        (folder / "fleet.json").write_text(
            json.dumps({**fleet, "broken": broken, "sick": sick, "superseded": superseded})
        )
        for host in ADDRESSES:
            (folder / f"release.{host}").write_text("r2")
        (folder / "ssh").write_text(SSH)
        (folder / "ssh").chmod(0o755)
        ssh = {"ansible_connection": "ssh", "ansible_ssh_executable": str(folder / "ssh"), "ansible_become": False}
        ssh["ansible_python_interpreter"] = sys.executable
        groups = {"control": ["control1"], "lb": ["lb1"], "app": list(ADDRESSES)}
        children = {name: {"hosts": dict.fromkeys(hosts)} for name, hosts in groups.items()}
        (folder / "hosts.yml").write_text(json.dumps({"all": {"vars": ssh, "children": children}}))

    def play(self, *plays: dict[str, Any], words: tuple[str, ...] = ()) -> tuple[int, str]:
        """Return the exit status, and what was printed, on one line."""
        (self.folder / "play.json").write_text(json.dumps([{"gather_facts": False, **play} for play in plays]))
        done = run_ansible(PLAYBOOK, "-i", self.folder / "hosts.yml", self.folder / "play.json", *words)
        return done.returncode, " ".join(done.stdout.split())

    def roll_back(self, *words: str) -> tuple[int, str]:
        """Roll back to r1, by the role; the fact that it publishes is printed."""
        given = {
            "deploy_what": "rollback",
            "deploy_hosts": [
                {"name": host, "address": address, "ports": [] if host == "app3" else [3000]}
                for host, address in ADDRESSES.items()
            ],
            "deploy_load_balancers": ["lb1"],
            "state_lock_kept": False,
        }
        shown = {"ansible.builtin.debug": {"msg": "Published: {{ deploy_lost | join(' ') }}."}}
        role = {"hosts": "control1", "vars": given, "roles": [{"role": "deploy"}], "post_tasks": [shown]}
        return self.play(role, words=words)

    def asked(self, host: str, *verb: str) -> list[list[str]]:
        """What a host was asked by this verb: the words after it."""
        lines = [json.loads(line) for line in (self.folder / "log").read_text().splitlines()]
        return [words[len(verb) :] for name, *words in lines if name == host and words[: len(verb)] == [*verb]]

    def releases(self) -> list[str]:
        return [(self.folder / f"release.{host}").read_text() for host in ADDRESSES]


@pytest.mark.parametrize("by_hand", ["", '{"deploy_left_out": " app3"}', '{"deploy_silent": ["app3"]}'])
def test_a_broken_standby_host_holds_nothing_up(tmp_path: Path, by_hand: str) -> None:
    """It is named with the reason, and recorded; by hand, or by the play that found it, without being asked."""
    fleet = Fleet(tmp_path, {"app3": 1})
    status, printed = fleet.roll_back(*(["-e", by_hand] if by_hand else []))
    assert status == 0, printed
    assert (f"app3 is left out: it answers, but can't report its instances ({WHY})" in printed) is not bool(by_hand)
    assert (f"left out, can't report its instances: app3 ({WHY})" in printed.replace("''", "'")) is not bool(by_hand)
    assert "Published: app3." in printed
    assert fleet.releases() == ["r1", "r1", "r2"]
    assert len(fleet.asked("app3", "instances")) == (0 if by_hand else 1)
    how = "did not answer" if by_hand else "was broken"
    assert fleet.asked("control1", "state", "away") == [["--reason", f"{how} when r1 was rolled out", "app3"]]


def test_a_host_that_is_not_there_is_not_left_out(tmp_path: Path) -> None:
    """Nor one whose name another one's begins with."""
    fleet = Fleet(tmp_path, {})
    status, printed = fleet.roll_back("-e", "deploy_left_out=app33,app1")
    assert status != 0 and "deploy_left_out names app33: give some of app1, app2, app3, lb1" in printed
    assert fleet.releases() == ["r2", "r2", "r2"] and not (tmp_path / "log").exists()


def test_a_lost_lock_is_no_broken_host(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, {}, superseded="app1")
    status, printed = fleet.roll_back()
    assert status != 0 and "Another play has taken the fleet's lock" in printed and "is left out" not in printed


def test_a_host_that_breaks_in_the_middle_does_not_keep_the_others_from_the_way_back(tmp_path: Path) -> None:
    """app2 after its first answer; the canary on app1 is refused."""
    fleet = Fleet(tmp_path, {"app2": 2}, sick=True)
    status, printed = fleet.roll_back()
    assert status != 0
    assert "The canary 192.0.2.21:3000 did not hold" in printed
    assert f"Left out, for they can't report their instances: app2 ({WHY}). The fleet is back on r2." in printed
    assert fleet.releases() == ["r2", "r2", "r2"]
    away = ["--reason", "was broken when the fleet was rolled back to r2", "app2"]
    assert fleet.asked("control1", "state", "away") == [away]
    assert "192.0.2.22:3000" in fleet.asked("control1", "state", "drain")[-1]
    assert fleet.asked("lb1", "upstreams", "set")[-1] == ["--lock=7-0123", "--down", "192.0.2.22:3000"]
    (end,) = fleet.asked("control1", "deploys", "end")
    assert end[end.index("--result") + 1] == "rolled back"


def test_too_many_broken_hosts_are_no_reason_to_take_all_out(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, {"app1": 1, "app2": 1})
    status, printed = fleet.roll_back()
    assert status != 0
    assert f"app1 answers, but can't report its instances ({WHY}); app2 answers, but" in printed.replace("''", "'")
    assert "0 of 2 hosts are too few (deploy_minimum_share is 0.5)" in printed
    assert fleet.asked("lb1", "upstreams", "set") == fleet.asked("control1", "state", "away") == []
    assert fleet.asked("control1", "lock", "release")


def test_a_deploy_begins_without_a_host_to_which_nothing_can_be_written(tmp_path: Path) -> None:
    """Unpacking the release would fail there, and end it for all."""
    fleet = Fleet(tmp_path, {"app3": 1})
    find = {
        "ansible.builtin.include_tasks": str(TOP / "playbooks" / "tasks" / "answering.yml"),
        "vars": {"answering_writable": list(ADDRESSES), "answering_without": ["app2"]},
    }
    shown = "; ".join(f"{{{{ groups['{group}'] | sort | join(' ') }}}}" for group in ("answering", "silent"))
    show = {"ansible.builtin.debug": {"msg": f"{shown}."}}
    status, printed = fleet.play({"hosts": "app:control", "tasks": [find]}, {"hosts": "control1", "tasks": [show]})
    assert status == 0, printed
    assert "app3 is left out: it answers, but nothing can be written to /var/lib and /opt there." in printed
    assert "app1 control1; app2 app3." in printed
