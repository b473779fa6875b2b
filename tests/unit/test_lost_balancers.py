"""Load balancers in plays of the operation, and what becomes of those that do not answer: with a stand-in for ssh."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from tests.harness.plays import PLAYBOOK
from tests.unit.shared import TOP, read_yaml, rendered, run_ansible, trusted

PLAYBOOKS = TOP / "playbooks"
SSH = """#!/bin/bash
# Hosts that do what they are asked, and those named in the file `dead`, which do not answer.
for host in control1 lb1 lb2 app2; do case " $* " in *" $host "*) break;; esac; done
if grep -qx "$host" "${0%/*}/dead"; then echo 'No route to host' >&2; exit 255; fi
printf '%s %s\\n' "$host" "${@: -1}" >> "${0%/*}/log"
echo '{"changed": true}'
"""
TOKEN = "7-0123"
PLACED = [{"name": "app1", "address": "192.0.2.21", "ports": [3000]}]
DOWN = ["192.0.2.22:3000"]


class Fleet:
    """Two load balancers, control with the fleet's lock, and app2; asked: the commands by host, as words."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "ssh").write_text(SSH)
        (folder / "ssh").chmod(0o755)
        (folder / "log").touch()
        self.asked: dict[str, list[list[str]]] = {}
        ssh = {"ansible_connection": "ssh", "ansible_ssh_executable": str(folder / "ssh"), "ansible_become": False}
        groups = {"control": ["control1"], "lb": ["lb1", "lb2"], "app": ["app2"]}
        own = {"control1": {"state_lock_token": TOKEN}}
        children = {name: {"hosts": {host: own.get(host, {}) for host in hosts}} for name, hosts in groups.items()}
        inventory = {"all": {"vars": {**ssh, "deploy_minimum_share": 0.5}, "children": children}}
        (folder / "hosts.yml").write_text(json.dumps(inventory))

    def run(self, playbook: Path, *words: str, dead: list[str]) -> tuple[int, str]:
        """Return the exit status, and what was printed, on one line."""
        (self.folder / "dead").write_text("".join(f"{host}\n" for host in dead))
        done = run_ansible(PLAYBOOK, "-i", self.folder / "hosts.yml", playbook, *words)
        for line in (self.folder / "log").read_text().splitlines():
            host, _, command = line.partition(" ")
            ran = shlex.split(shlex.split(command)[-1].partition(" && ")[0])
            self.asked.setdefault(host, []).append(ran[ran.index("/usr/local/bin/phoenixctl") + 1 :])
        return done.returncode, " ".join(done.stdout.split())

    def rotate(self, *dead: str) -> tuple[int, str]:
        """Take app2 out of rotation."""
        tasks = {"ansible.builtin.include_tasks": str(PLAYBOOKS / "tasks" / "service" / "rotate.yml")}
        rotation = {
            "block": [tasks, {"ansible.builtin.debug": {"msg": "goes on"}}],
            "rescue": [{"ansible.builtin.fail": {"msg": "Rescued: {{ ansible_failed_result.msg }}"}}],
            "vars": {"service_placed": PLACED, "service_down": DOWN},
        }
        play = {"hosts": "app2", "gather_facts": False, "tasks": [rotation]}
        (self.folder / "play.json").write_text(json.dumps([play]))
        return self.run(self.folder / "play.json", dead=list(dead))


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def test_the_load_balancers_learn_that_a_newer_play_is_at_work(fleet: Fleet) -> None:
    """By its lock: what a dead deploy left running there may otherwise put back what this play has taken out."""
    status, printed = fleet.rotate()
    assert status == 0 and "goes on" in printed, printed
    upstreams = ["upstreams", "set", f"--lock={TOKEN}", "--hosts", json.dumps(PLACED), "--down", *DOWN]
    assert fleet.asked["lb1"] == fleet.asked["lb2"] == [upstreams]
    (drained,) = fleet.asked["control1"]
    assert drained[:4] == ["state", "drain", "--token", TOKEN] and drained[-1:] == DOWN


@pytest.mark.parametrize(("dead", "refused"), [(["lb1"], False), (["lb1", "lb2"], True)])
def test_a_dead_load_balancer_holds_nothing_up_and_is_brought_up_to_date_later(
    fleet: Fleet, dead: list[str], refused: bool
) -> None:
    """Where too few are left the play's rescue runs, which releases the lock: an unreachable delegate skips it."""
    status, printed = fleet.rotate(*dead)
    assert (status != 0) is refused, printed
    assert ("goes on" in printed) is not refused
    assert ("Rescued: lb1, lb2 can't be reached by SSH: 0 of 2 hosts are too few" in printed) is refused
    assert set(fleet.asked) == {"control1", "lb1", "lb2"} - {*dead}
    away = fleet.asked["control1"][-1]
    assert away == ["state", "away", "--reason", "did not answer when app2 left the rotation or came back", *dead]


@pytest.mark.parametrize("dead", [[], ["lb1"], ["lb1", "lb2"]])
def test_maintenance_reaches_a_load_balancer_that_was_silent_once_it_is_back(fleet: Fleet, dead: list[str]) -> None:
    status, printed = fleet.run(PLAYBOOKS / "maintenance.yml", "-e", "phoenix_maintenance=on", dead=dead)
    recorded, *away = fleet.asked.pop("control1")
    assert recorded == ["state", "maintenance", "on"]
    asked = [["state", "away", "--reason", "did not answer when maintenance was turned on", *dead]]
    assert away == (asked if dead else [])
    assert fleet.asked == {host: [["upstreams", "maintenance", "on"]] for host in ("lb1", "lb2") if host not in dead}
    assert (status != 0) is bool(dead), printed
    assert (f"{', '.join(dead)} can't be reached by SSH, and may still answer clients as before" in printed) is bool(
        dead
    )


def placing(name: str) -> list[dict[str, Any]]:
    """The plays of a playbook and, in their places, of those that it imports."""
    found: list[dict[str, Any]] = []
    for play in read_yaml(PLAYBOOKS / f"{name}.yml"):
        found += placing(str(play["import_playbook"])[: -len(".yml")]) if "import_playbook" in play else [play]
    return found


@pytest.mark.parametrize("on", [True, False])
def test_whoever_is_brought_up_to_date_gets_the_recorded_maintenance(on: bool) -> None:
    """With the upstreams, which reconcile.yml has every load balancer write anew: the switch is in that file."""
    plays = placing("reconcile")
    (applied,) = [
        number
        for number, play in enumerate(plays)
        for task in play.get("tasks", [])
        if task.get("ansible.builtin.include_role") == {"name": "nginx", "tasks_from": "upstreams"}
    ]
    (back,) = [number for number, play in enumerate(plays) if "'state', 'back'" in json.dumps(play)]
    assert plays[applied]["hosts"].split(":")[-1] == "lb" and applied < back
    (apply,) = read_yaml(TOP / "roles" / "nginx" / "tasks" / "upstreams.yml")
    assert "template', 'upstreams.conf.j2'" in apply["phoenixctl"]["stdin"]
    wiring = read_yaml(PLAYBOOKS / "group_vars" / "all" / "wiring.yml")["nginx_maintenance"]
    variables = {"groups": {"control": ["control1"]}, "hostvars": {"control1": {"state_maintenance": on}}}
    found = Templar(loader=DataLoader(), variables=variables).template(trusted(wiring))
    text = rendered(TOP / "roles" / "nginx" / "templates" / "upstreams.conf.j2", {"nginx_maintenance": found})
    assert f"geo $phoenix_maintenance {{\n    default {int(on)};" in text
