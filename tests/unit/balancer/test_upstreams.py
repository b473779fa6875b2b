"""nginx's files come into force whole, or the next run finishes what was cut off."""

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from phoenix.balancer import upstreams
from phoenix.common import endpoint
from tests.unit.shared import TOP, rendered

UP = "upstream phoenix {\n    server 192.0.2.21:3000;\n    server 192.0.2.22:3000;\n}\n"
DOWN = UP.replace("21:3000", "21:3000 down")


TEMPLATE = TOP / "roles" / "nginx" / "templates" / "upstreams.conf.j2"
KINDS: list[dict[str, Any]] = [{}, {"nginx_unwanted_policy": "isolate"}, {"nginx_affinity": "cookie"}, {"spare": False}]


def of_the_template(kind: dict[str, Any], hosts: list[dict[str, Any]], down: list[str]) -> str:
    served = [{**host, "spare_port": 3900} for host in hosts if host["ports"]]
    isolated = [{"address": host["address"], "port": port} for host in served for port in (3950, 3951)]
    own = {"__nginx_ordinary": served, "__nginx_spare": served if kind.get("spare", True) else []}
    return rendered(TEMPLATE, {**kind, **own, "nginx_isolate": isolated, "nginx_drained": down})


@pytest.mark.parametrize("network", ["192.0.2.", "2001:db8::"])
@pytest.mark.parametrize("kind", KINDS)
def test_servers_are_placed_as_the_template_places_them(kind: dict[str, Any], network: str) -> None:
    """So that a play which writes the whole file afterwards changes nothing."""
    usual: list[dict[str, Any]] = [
        {"name": "app1", "address": f"{network}21", "ports": [3000, 3001]},
        {"name": "app2", "address": f"{network}22", "ports": [3000]},
        {"name": "app3", "address": f"{network}23", "ports": []},
    ]
    around = [usual[0], {**usual[1], "ports": [3000, 3001]}, {**usual[2], "ports": [3000]}]
    out = [endpoint.of(f"{network}21", port) for port in (3000, 3001, 3900)]
    before, during = of_the_template(kind, usual, []), of_the_template(kind, around, out)
    assert all(re.search(rf"server {re.escape(server)} .* down;", during) for server in out[:2])
    assert upstreams.down_servers(before) == []
    assert set(out[:2]) <= set(upstreams.down_servers(during)) <= set(out)
    assert upstreams.mark(upstreams.place_servers(before, around), out) == during
    assert upstreams.mark(upstreams.place_servers(during, usual), []) == before
    with pytest.raises(upstreams.Refused, match="no host"):
        upstreams.place_servers(before, [usual[2]])


class Nginx:
    """Stand-in for nginx: records the files that it read, and refuses on demand."""

    def __init__(self, file: Path) -> None:
        self.file, self.tried, self.loaded = file, list[str](), [file.read_text()]
        self.accepts = self.accepts_whole = self.reloads = True

    def try_out(self, text: str) -> None:
        self.tried.append(text)
        if not self.accepts:
            raise upstreams.Refused("an error in the upstreams")

    def test(self) -> None:
        if not self.accepts_whole:
            raise upstreams.Refused("an error in the whole")

    def reload(self) -> None:
        if not self.reloads:
            raise upstreams.Refused("old workers still serve")
        self.loaded.append(self.file.read_text())

    def in_force(self) -> bool:
        return self.loaded[-1] == self.file.read_text()


@pytest.fixture
def nginx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nginx:
    file = tmp_path / "upstreams.conf"
    file.write_text(UP)
    stand_in = Nginx(file)
    monkeypatch.setattr(upstreams, "UPSTREAMS", file)
    for name in ("try_out", "test", "reload", "in_force"):
        monkeypatch.setattr(upstreams, name, getattr(stand_in, name))
    return stand_in


def test_a_change_is_tried_then_loaded_once(nginx: Nginx) -> None:
    assert upstreams.set_down(["192.0.2.21:3000"])
    assert nginx.file.read_text() == DOWN
    assert nginx.tried == [DOWN] and nginx.loaded == [UP, DOWN]
    assert not upstreams.set_down(["192.0.2.21:3000"])
    assert not upstreams.apply(DOWN)
    assert nginx.loaded == [UP, DOWN]


@pytest.mark.parametrize("refused", ["accepts", "accepts_whole"])
def test_a_file_that_nginx_refuses_replaces_nothing(nginx: Nginx, refused: str) -> None:
    setattr(nginx, refused, False)
    with pytest.raises(upstreams.Refused):
        upstreams.set_down(["192.0.2.21:3000"])
    assert nginx.file.read_text() == UP
    assert nginx.loaded == [UP]


@pytest.mark.parametrize("again", ["set", "apply", "load"])
def test_a_reload_that_failed_is_done_by_the_next_run(nginx: Nginx, again: str) -> None:
    nginx.reloads = False
    with pytest.raises(upstreams.Refused):
        upstreams.set_down(["192.0.2.21:3000"])
    nginx.reloads = True
    assert upstreams.apply(DOWN, check=True), "a dry run reports it"
    runs = {
        "set": lambda: upstreams.set_down(["192.0.2.21:3000"]),
        "apply": lambda: upstreams.apply(DOWN),
        "load": upstreams.load,
    }
    assert runs[again]() and not runs[again]()
    assert nginx.loaded == [UP, DOWN]
    assert nginx.file.read_text() == DOWN


def test_a_failed_change_is_taken_back_by_a_run_that_wants_the_old_upstreams(nginx: Nginx) -> None:
    nginx.reloads = False
    with pytest.raises(upstreams.Refused):
        upstreams.set_down(["192.0.2.21:3000"])
    nginx.reloads = True
    assert upstreams.set_down([])
    assert nginx.file.read_text() == UP


def test_check_mode_reports_a_change_and_makes_none(nginx: Nginx) -> None:
    assert upstreams.apply(DOWN, check=True)
    assert nginx.file.read_text() == UP
    assert nginx.tried == [DOWN] and nginx.loaded == [UP]


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """nginx.conf of a running nginx, for which this very process stands."""
    file = tmp_path / "nginx.conf"
    file.write_text("events {}")
    (tmp_path / "pid").write_text(f"{os.getpid()}\n")
    monkeypatch.setattr(upstreams, "PID", tmp_path / "pid")
    monkeypatch.setattr(upstreams, "LOADED", tmp_path / "loaded")
    monkeypatch.setattr(upstreams, "SOURCES", (file,))
    monkeypatch.setattr(upstreams, "_nginx", lambda *_: None)
    workers = iter([{"1"}, {"1"}, {"2"}, {"2"}, {"3"}])
    monkeypatch.setattr(upstreams, "serving", lambda _: next(workers))
    return file


def test_what_nginx_has_read_is_known(running: Path) -> None:
    assert not upstreams.in_force(), "written after its start"
    assert upstreams.load()
    assert not upstreams.load()
    running.write_text("events { }")
    assert upstreams.load(), "another change"
    assert upstreams.in_force()


def test_a_started_nginx_has_read_what_is_older(running: Path) -> None:
    before = time.time() - 7 * 86400
    os.utime(running, (before, before))
    assert upstreams.in_force()
    upstreams.LOADED.write_text('{"nginx": "1/1", "digest": "of another"}')
    assert upstreams.in_force()


def test_a_stopped_nginx_reads_its_files_at_its_start(running: Path) -> None:
    upstreams.PID.write_text("4194305\n")  # more than the kernel gives
    assert upstreams.in_force() and not upstreams.load()
