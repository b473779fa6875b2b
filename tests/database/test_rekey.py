"""The password of the copy off-site, replaced with Debian's restic; a run that was cut is completed by the next one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from phoenix.backup import offsite, rekey
from tests.harness import debian


@pytest.fixture(autouse=True)
def restic(monkeypatch: pytest.MonkeyPatch) -> None:
    program = debian.program("restic", "usr/bin/restic")
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{Path(program).parent}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The settings of a repository that does not exist yet."""
    settings = {"repository": str(tmp_path / "repository"), "password": "one", "fleet": "example", "keep_days": 1}
    file = tmp_path / "offsite.json"
    file.write_text(json.dumps(settings))
    return file


def opens(path: Path, password: str) -> bool:
    settings = offsite.Settings(**{**json.loads(path.read_text()), "password": password})
    with offsite.connected(settings) as one:
        return one.run("key", "list", "--no-lock").returncode == 0


def test_the_new_password_opens_it_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with offsite.connected(offsite.Settings.read(path)) as made:
        assert made.run("init").returncode == 0
    genuine = offsite.Restic.run

    def cut(self: offsite.Restic, *words: str, folder: Path | None = None) -> object:
        if words[:2] == ("key", "remove"):
            raise InterruptedError
        return genuine(self, *words, folder=folder)

    with monkeypatch.context() as patched, pytest.raises(InterruptedError):
        patched.setattr(offsite.Restic, "run", cut)
        rekey.rekey(path, "two")
    assert json.loads(path.read_text())["password"] == "two"  # pragma: allowlist secret
    done = rekey.rekey(path, "two")
    assert done == ["the new password opens the copy, and the former one is refused"]
    assert not opens(path, "one")
    assert path.stat().st_mode & 0o777 == 0o600 and [one.name for one in path.parent.glob("offsite*")] == [path.name]
    assert rekey.rekey(path, "two") == []


def test_one_that_was_cut_leaves_no_password_behind_when_another_is_wanted(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with offsite.connected(offsite.Settings.read(path)) as made:
        assert made.run("init").returncode == 0

    def cut(*_: object) -> list[str]:
        raise InterruptedError

    with monkeypatch.context() as patched, pytest.raises(InterruptedError):
        patched.setattr(rekey, "_remove", cut)
        rekey.rekey(path, "two")
    rekey.rekey(path, "three")
    assert [opens(path, password) for password in ("one", "two", "three")] == [False, False, True]


def test_where_nothing_was_copied_yet_the_new_password_is_recorded(path: Path) -> None:
    assert rekey.rekey(path, "two") == ["recorded the new password", "there is no repository yet"]
    assert json.loads(path.read_text())["password"] == "two"  # pragma: allowlist secret
