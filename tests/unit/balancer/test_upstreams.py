"""Upstreams come into force whole, or the next run finishes what was cut off."""

from pathlib import Path

import pytest

from phoenix.balancer import upstreams

UP = "upstream phoenix {\n    server 192.0.2.21:3000;\n    server 192.0.2.22:3000;\n}\n"
DOWN = UP.replace("21:3000", "21:3000 down")


class Nginx:
    """Stand-in for nginx: records the files that it read, and refuses on demand."""

    def __init__(self, file: Path) -> None:
        self.file, self.tried, self.loaded = file, list[str](), list[str]()
        self.accepts = self.reloads = True

    def try_out(self, text: str) -> None:
        self.tried.append(text)
        if not self.accepts:
            raise upstreams.Refused("an error in the upstreams")

    def reload(self) -> None:
        self.loaded.append(self.file.read_text())
        if not self.reloads:
            raise upstreams.Refused("old workers still serve")


@pytest.fixture
def nginx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nginx:
    stand_in = Nginx(tmp_path / "upstreams.conf")
    stand_in.file.write_text(UP)
    monkeypatch.setattr(upstreams, "UPSTREAMS", stand_in.file)
    monkeypatch.setattr(upstreams, "try_out", stand_in.try_out)
    monkeypatch.setattr(upstreams, "reload", stand_in.reload)
    return stand_in


def test_a_change_is_tried_then_loaded_once(nginx: Nginx) -> None:
    assert upstreams.set_down(["192.0.2.21:3000"])
    assert nginx.file.read_text() == DOWN
    assert nginx.tried == [DOWN] and len(nginx.loaded) == 1
    assert not upstreams.set_down(["192.0.2.21:3000"])
    assert not upstreams.apply(DOWN)
    assert len(nginx.loaded) == 1


def test_a_file_that_nginx_refuses_replaces_nothing(nginx: Nginx) -> None:
    nginx.accepts = False
    with pytest.raises(upstreams.Refused):
        upstreams.set_down(["192.0.2.21:3000"])
    assert nginx.file.read_text() == UP
    assert nginx.loaded == []


@pytest.mark.parametrize("again", ["set", "apply"])
def test_a_reload_that_failed_is_done_by_the_next_run(nginx: Nginx, again: str) -> None:
    nginx.reloads = False
    with pytest.raises(upstreams.Refused):
        upstreams.set_down(["192.0.2.21:3000"])
    nginx.reloads = True
    changed = upstreams.set_down(["192.0.2.21:3000"]) if again == "set" else upstreams.apply(DOWN)
    assert changed and len(nginx.loaded) == 2
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
    assert nginx.tried == [DOWN] and nginx.loaded == []
