"""failover.yml, carried out by Ansible on this machine: where clients end up when the site does not answer."""

from __future__ import annotations

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import yaml

from tests.harness.plays import PLAYBOOK
from tests.unit.shared import TOP, run_ansible

SHOWN = json.dumps({"held": {"192.0.2.10": True}, "obstacle": ""})
MOVE = """
- name: Record where the addresses go
  hosts: lb
  gather_facts: false
  tasks:
    - name: Record it
      ansible.builtin.lineinfile:
        path: "{{ moves }}"
        line: "to {{ phoenix_master or 'home' }}"
        create: true
        mode: "0600"
      run_once: true
"""


def failover(folder: Path, url: str) -> tuple[int, str, list[str]]:
    """The play beside a switch.yml that only records; its exit status, its output, and where the addresses went."""
    text = (TOP / "playbooks" / "failover.yml").read_text(encoding="utf-8")
    patience, little = "retries: 5\n      delay: 1\n", "retries: 1\n      delay: 0\n"
    (folder / "failover.yml").write_text(text.replace(patience, little), encoding="utf-8")
    (folder / "switch.yml").write_text(MOVE, encoding="utf-8")
    program = folder / "phoenixctl"
    program.write_text(f"#!/bin/sh\necho '{SHOWN}'\n", encoding="ascii")
    program.chmod(0o755)
    groups: dict[str, Any] = {"lb": {"hosts": {"lb1": {}, "lb2": {}}}, "control": {"hosts": {"control1": {}}}}
    variables = {
        "ansible_become": False,
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "moves": str(folder / "moves"),
        "phoenix_url": url,
        "phoenix_health_path": "/",
    }
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": groups, "vars": variables}}))
    path = f"{folder}:{os.environ['PATH']}"
    done = run_ansible(PLAYBOOK, "-i", folder / "hosts.yml", folder / "failover.yml", PATH=path)
    return done.returncode, done.stdout + done.stderr, (folder / "moves").read_text(encoding="utf-8").splitlines()


def test_clients_are_brought_back_from_where_the_site_does_not_answer(tmp_path: Path) -> None:
    class Site(BaseHTTPRequestHandler):
        """502 while the other load balancer has the addresses."""

        def do_GET(self) -> None:
            moved = (tmp_path / "moves").read_text(encoding="utf-8").splitlines()
            self.send_response(502 if moved == ["to lb2"] else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Site)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        code, output, moves = failover(tmp_path, f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
    assert moves == ["to lb2", "to home"], output
    assert code != 0, "it is reported all the same"
    assert "did not answer while lb2 had the floating addresses (Status code was 502" in " ".join(output.split())
