"""site.yml's tasks around the configuration of a load balancer: whether the next one may be given the same."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.harness.plays import PLAYBOOK
from tests.harness.real_nginx import NAME, Instances, Site, Sites
from tests.unit.shared import TOP, read_yaml, run_ansible

PLAY = "Bring up the load balancers"
PROXIES = {"nginx_proxy_protocol": True, "nginx_trusted_proxies": ["192.0.2.0/24"]}
Gate = Callable[..., str]


@pytest.fixture
def gate(sites: Sites, tmp_path: Path) -> Gate:
    """Configure a load balancer between the tasks, and return why they refuse it; "" where they do not."""
    (play,) = (play for play in read_yaml(TOP / "playbooks/site.yml") if play["name"] == PLAY)
    tasks = {task["name"]: task for task in play["tasks"][0]["block"]}
    around = ["Note whether it serves the site", "Check that it serves the site, before the next one changes"]
    begin = list(tasks).index(around[0])
    assert list(tasks)[begin : begin + 3] == [around[0], "Install and configure nginx", around[1]]
    asks = [tasks[name]["ansible.builtin.include_tasks"] for name in around]

    def run(site: Site, change: str, url: str = f"https://{NAME}", **own: Any) -> str:
        """change: a command. own: variables of the load balancer."""
        variables = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "ansible_become": False,
            "phoenix_address": "127.0.0.1",
            "phoenix_url": url,
            "phoenix_floating_addresses": [],
            "phoenix_health_path": "/",
            "nginx_tls_enabled": True,
            "nginx_http_port": site.http,
            "nginx_https_port": site.https,
            "nginx_proxy_protocol": False,
            "nginx_trusted_proxies": [],
            "nginx_maintenance_visitors": ["192.0.2.41"],
            "nginx_server_names": [NAME],
            **own,
        }
        first, last = ({"ansible.builtin.include_tasks": str(TOP / "playbooks" / path)} for path in asks)
        steps = [first, {"ansible.builtin.command": change}, last]
        written = {name: value for name, value in play["vars"].items() if name.startswith("site_")}
        one = {"hosts": "lb", "gather_facts": False, "vars": written, "tasks": steps}
        (tmp_path / "play.yml").write_text(yaml.safe_dump([one]), encoding="utf-8")
        inventory = {"lb": {"hosts": {"lb1": variables}}}
        (tmp_path / "hosts.yml").write_text(json.dumps(inventory), encoding="utf-8")
        done = run_ansible(
            PLAYBOOK, "-i", tmp_path / "hosts.yml", tmp_path / "play.yml", PATH=f"{tmp_path}:{os.environ['PATH']}"
        )
        if done.returncode == 0:
            return ""
        failed = done.stdout.rpartition("TASK [Check that it serves the site]")[2]
        assert "fatal: [lb1]" in failed, done.stdout + done.stderr
        return failed

    return run


@pytest.fixture
def served(sites: Sites) -> Callable[..., tuple[Site, str]]:
    """A site that serves, and the command that gives it other settings."""

    def start(**settings: Any) -> tuple[Site, str]:
        site = sites()
        lines = [
            "#!/bin/sh",
            "set -e",
            f"master=$(cat {site.folder}/pid); former=$(cat /proc/$master/task/$master/children)",
        ]
        for number, (path, text) in enumerate(site.texts(**settings).items()):
            new = site.folder / f"new{number}"
            new.write_text(text)
            lines.append(f"cp {new} {path}")
        lines += [
            f"{site.program} -q -c {site.folder}/nginx.conf -e {site.folder}/log/error.log -s reload",
            # Until none of the former workers answers, as the reload of a load balancer does.
            "for one in $former; do while [ -e /proc/$one ]; do sleep 0.1; done; done",
        ]
        command = site.folder / "change"
        command.write_text("\n".join(lines) + "\n")
        command.chmod(0o755)
        return site, str(command)

    return start


def test_one_that_serves_is_passed(gate: Gate, served: Any) -> None:
    assert gate(*served(nginx_maintenance=True)) == "", "clients get the page of maintenance, this host does not"


def test_names_that_are_not_the_sites_are_refused(gate: Gate, served: Any) -> None:
    said = gate(*served(nginx_server_names=["w.example.org"]), nginx_server_names=["w.example.org"])
    assert f"nginx answers 421 to requests for {NAME}, the host of phoenix_url" in said


def test_one_that_fails_requests_is_refused_only_where_it_did_not_before(
    gate: Gate, served: Any, instances: Instances
) -> None:
    """At a first installation nothing may be there to answer, and a change may be what helps."""
    nowhere = {"name": "app1", "address": "127.0.0.1", "ports": [1], "spare_port": 1}
    wrong = {"__nginx_ordinary": [nowhere], "__nginx_spare": [nowhere]}
    assert "were answered before nginx was configured, and now there is status 502" in gate(*served(**wrong))
    with instances.stopped(*instances.ordinary, instances.spare):
        assert gate(*served()) == ""


def test_one_that_does_not_answer_is_refused(gate: Gate, served: Any) -> None:
    site, _ = served()
    site.stop()
    assert "nginx does not answer requests for" in gate(site, "true")
    start = f"{site.program} -q -c {site.folder}/nginx.conf -e {site.folder}/log/error.log"
    assert gate(site, start) == "", "as at a first installation"


@pytest.mark.parametrize("closed", [0, 2])
def test_proxies_are_to_speak_the_protocol(gate: Gate, served: Any, tmp_path: Path, closed: int) -> None:
    seen = json.dumps({"closed": closed, "last": "192.0.2.9", "answered": 0})
    (tmp_path / "phoenixctl").write_text(f"#!/bin/sh\necho \"$@\" >{tmp_path}/asked\necho '{seen}'\n")
    (tmp_path / "phoenixctl").chmod(0o755)
    said = gate(*served(**PROXIES), **PROXIES)
    assert ("closed 2 connections of proxies in front" in said) is bool(closed)
    assert (tmp_path / "asked").read_text() == "proxies watch --proxy 192.0.2.0/24 --own 192.0.2.41\n"
