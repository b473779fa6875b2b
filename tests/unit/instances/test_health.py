"""One answer is healthy or not, for all that ask: the gates of a start, the monitoring and verify.yml."""

from __future__ import annotations

import http.server
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from phoenix.instances import health
from phoenix.monitoring.nginx import UNKNOWN_NAME, Site
from tests.harness.plays import PLAYBOOK
from tests.unit.shared import TOP, read_yaml, run_ansible, trusted

HEALTHY, UNHEALTHY = (200, 204, 301, 302, 401, 404, 421, 499), (500, 502, 503, 599)
# What Ansible's module is asked by; the list that it gets has all of them.
ASKED = (204, 301, 302, UNKNOWN_NAME, 503)
TASKS = ("Request the page from each instance", "Request the page from the load balancer")


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[int, int]]:
    """A server for each status, by its port; where a redirection leads to, nothing answers."""
    running: dict[int, http.server.ThreadingHTTPServer] = {}
    for status in (*HEALTHY, *UNHEALTHY):

        class Handler(http.server.BaseHTTPRequestHandler):
            own = status

            def do_GET(self) -> None:
                self.send_response(self.own)
                if self.own in (301, 302):
                    self.send_header("Location", "https://127.0.0.1:1/")
                if self.own != 204:
                    self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        running[status] = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=running[status].serve_forever, args=(0.05,), daemon=True).start()
    yield {status: server.server_address[1] for status, server in running.items()}
    for server in running.values():
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("status", [*HEALTHY, *UNHEALTHY])
def test_the_gates_and_the_monitoring_take_the_same_answers(ports: dict[int, int], status: int) -> None:
    port = ports[status]
    assert health.ask(port, "/", 60) == ("" if status in HEALTHY else f"status {status}")
    taken = status in HEALTHY and status != UNKNOWN_NAME  # nginx's own, for a name that it has no site for
    site = Site("lb1", "127.0.0.1", f"http://www.example.org:{port}/")
    assert site.error() == ("" if taken else f"status {status}")


def test_verify_takes_the_same_answers_and_follows_no_redirection(
    ports: dict[int, int], tmp_path: Path, ansible_plugins: None
) -> None:
    """By the tasks of verify.yml, at an instance and at a load balancer."""
    ports = {status: ports[status] for status in ASKED}
    found: dict[str, dict[str, Any]] = {
        task["name"]: task for play in read_yaml(TOP / "playbooks" / "verify.yml") for task in play.get("tasks", [])
    }
    tasks: list[dict[str, Any]] = []
    for number, name in enumerate(TASKS):
        tasks.append(
            {**found[name], "loop": "{{ phoenix_ports }}", "register": f"seen_{number}", "ignore_errors": True}
        )
        written = {"content": f"{{{{ seen_{number}.results | to_json }}}}", "dest": str(tmp_path / str(number))}
        tasks.append({"ansible.builtin.copy": {**written, "mode": "0600"}})
    given = {
        "phoenix_ports": list(ports.values()),
        "phoenix_health_path": "/",
        "ansible_become": False,
        "ansible_python_interpreter": sys.executable,
    }
    play = {"hosts": "localhost", "gather_facts": False, "tasks": tasks}
    play["vars"] = {"__verify_base": "http://127.0.0.1:{{ item }}"}
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    done = run_ansible(PLAYBOOK, "-i", "localhost,", "-c", "local", "-e", json.dumps(given), tmp_path / "play.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    statuses = {port: status for status, port in ports.items()}
    for number, refused in enumerate(((), (UNKNOWN_NAME,))):
        results = json.loads((tmp_path / str(number)).read_text())
        good = {statuses[one["item"]] for one in results if not one["failed"]}
        assert len(results) == len(ports) and good == set(ASKED) & set(HEALTHY) - {*refused}, TASKS[number]
        taken = Templar(loader=DataLoader()).template(
            trusted(found[TASKS[number]]["ansible.builtin.uri"]["status_code"])
        )
        assert set(taken) & {*HEALTHY, *UNHEALTHY} == set(HEALTHY) - {*refused}, TASKS[number]


# Where a play asks an instance by itself, and not by phoenixctl: the file, and the task's name.
ASKING = {
    "verify.yml": "Request the page from each instance",
    "tasks/service/return-app.yml": "Wait until each instance answers",
}


def asking(content: Any) -> Iterator[dict[str, Any]]:
    """Yield the tasks that ask an instance of this host, wherever they are in a file."""
    if isinstance(content, dict):
        asked = content.get("ansible.builtin.uri")
        if isinstance(asked, dict) and "127.0.0.1:{{ item" in asked["url"] and "phoenix_health_path" in asked["url"]:
            yield content
    for each in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        yield from asking(each)


def test_plays_ask_an_instance_as_a_load_balancer_does(tmp_path: Path, ansible_plugins: None) -> None:
    """An application that needs the headers passes a roll-out; patch.yml and add-host.yml must not leave it out."""
    playbooks = TOP / "playbooks"
    found = {
        str(path.relative_to(playbooks)): task
        for path in sorted(playbooks.rglob("*.yml"))
        for task in asking(read_yaml(path))
    }
    assert {path: task["name"] for path, task in found.items()} == ASKING
    wanted = {name: value for name, value in health.HEADERS.items() if name.startswith("X-")}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if {name: self.headers[name] for name in wanted} == wanted else 500)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    tasks = [{**task, "retries": 0} if "until" in task else task for task in found.values()]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        port = server.server_address[1]
        given = {
            "phoenix_ports": [port],
            "service_servers": [f"192.0.2.21:{port}"],
            "phoenix_health_path": "/",
            "ansible_become": False,
            "ansible_python_interpreter": sys.executable,
        }
        play = {"hosts": "localhost", "gather_facts": False, "tasks": tasks}
        (tmp_path / "play.yml").write_text(json.dumps([play]))
        done = run_ansible(PLAYBOOK, "-i", "localhost,", "-c", "local", "-e", json.dumps(given), tmp_path / "play.yml")
        server.shutdown()
    assert done.returncode == 0, done.stdout + done.stderr
