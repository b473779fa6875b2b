"""A host leaves the rotation and comes back: playbooks/tasks/service/rotate.yml, run with a stand-in for ssh."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from tests.harness.plays import PLAYBOOK
from tests.unit.shared import TOP, run_ansible

TASKS = TOP / "playbooks" / "tasks" / "service" / "rotate.yml"
SSH = """#!/bin/bash
# Hosts that do what they are told, and those named in the file `dead`, which do not answer.
for host in control1 lb1 lb2 app2; do case " $* " in *" $host "*) break;; esac; done
if grep -qx "$host" "${0%/*}/dead"; then echo 'No route to host' >&2; exit 255; fi
printf '%s %s\\n' "$host" "${@: -1}" >> "${0%/*}/log"
echo '{"changed": true}'
"""
TOKEN = "7-0123"
PLACED = [{"name": "app1", "address": "192.0.2.21", "ports": [3000]}]
DOWN = ["192.0.2.22:3000"]


@pytest.fixture
def rotate(tmp_path: Path) -> Rotation:
    return Rotation(tmp_path)


class Rotation:
    """A run of the tasks for app2; told: the commands by host, as words."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "ssh").write_text(SSH)
        (folder / "ssh").chmod(0o755)
        (folder / "log").touch()
        self.told: dict[str, list[list[str]]] = {}

    def run(self, *dead: str) -> tuple[int, str]:
        """Return whether it failed (the exit status), and what was printed, on one line."""
        (self.folder / "dead").write_text("".join(f"{host}\n" for host in dead))
        common = {
            "ansible_connection": "ssh",
            "ansible_ssh_executable": str(self.folder / "ssh"),
            "ansible_become": False,
        }
        groups = {"control": ["control1"], "lb": ["lb1", "lb2"], "app": ["app2"]}
        own = {"control1": {"state_lock_token": TOKEN}}
        children = {name: {"hosts": {host: own.get(host, {}) for host in hosts}} for name, hosts in groups.items()}
        (self.folder / "hosts.yml").write_text(
            json.dumps({"all": {"vars": {**common, "deploy_minimum_share": 0.5}, "children": children}})
        )
        rotation = {
            "block": [{"ansible.builtin.include_tasks": str(TASKS)}, {"ansible.builtin.debug": {"msg": "goes on"}}],
            "rescue": [{"ansible.builtin.fail": {"msg": "Rescued: {{ ansible_failed_result.msg }}"}}],
            "vars": {"service_placed": PLACED, "service_down": DOWN},
        }
        play = {"hosts": "app2", "gather_facts": False, "tasks": [rotation]}
        (self.folder / "play.json").write_text(json.dumps([play]))
        done = run_ansible(PLAYBOOK, "-i", self.folder / "hosts.yml", self.folder / "play.json")
        for line in (self.folder / "log").read_text().splitlines():
            host, _, command = line.partition(" ")
            words = shlex.split(shlex.split(command)[-1].partition(" && ")[0])
            self.told.setdefault(host, []).append(words[words.index("/usr/local/bin/phoenixctl") + 1 :])
        return done.returncode, " ".join(done.stdout.split())


def test_the_load_balancers_learn_that_a_newer_play_is_at_work(rotate: Rotation) -> None:
    """By its lock: what a dead deploy left running there may otherwise put back what this play has taken out."""
    status, printed = rotate.run()
    assert status == 0 and "goes on" in printed, printed
    upstreams = ["upstreams", "set", f"--lock={TOKEN}", "--hosts", json.dumps(PLACED), "--down", *DOWN]
    assert rotate.told["lb1"] == rotate.told["lb2"] == [upstreams]
    (drained,) = rotate.told["control1"]
    assert drained[:4] == ["state", "drain", "--token", TOKEN] and drained[-1:] == DOWN


@pytest.mark.parametrize(("dead", "refused"), [(["lb1"], False), (["lb1", "lb2"], True)])
def test_a_dead_load_balancer_holds_nothing_up_and_is_brought_up_to_date_later(
    rotate: Rotation, dead: list[str], refused: bool
) -> None:
    """Where too few are left the play's rescue runs, which releases the lock: an unreachable delegate skips it."""
    status, printed = rotate.run(*dead)
    assert (status != 0) is refused, printed
    assert ("goes on" in printed) is not refused
    assert ("Rescued: lb1, lb2 can't be reached by SSH: 0 of 2 hosts are too few" in printed) is refused
    assert set(rotate.told) == {"control1", "lb1", "lb2"} - {*dead}
    away = rotate.told["control1"][-1]
    assert away == ["state", "away", "--reason", "did not answer when app2 left the rotation or came back", *dead]
