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
    described = {"repository": str(tmp_path / "repository"), "password": "one", "fleet": "example", "keep_days": 1}
    file = tmp_path / "offsite.json"
    file.write_text(json.dumps(described))
    return file


def record(path: Path, password: str) -> None:
    """As site.yml does."""
    path.write_text(json.dumps({**json.loads(path.read_text()), "password": password}))


def settings(path: Path, password: str) -> offsite.Settings:
    return offsite.Settings(**{**json.loads(path.read_text()), "password": password})


def opens(path: Path, password: str) -> bool:
    with offsite.connected(settings(path, password)) as one:
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


@pytest.mark.parametrize("cut", [False, True])
def test_a_password_that_site_has_recorded_meanwhile_is_taken(
    path: Path, monkeypatch: pytest.MonkeyPatch, cut: bool
) -> None:
    """The role `backup` writes the inventory's, perhaps between a replacement that was cut and its completion."""
    with offsite.connected(offsite.Settings.read(path)) as made:
        assert made.run("init").returncode == 0
    wanted = ["two"]
    if cut:
        wanted.append("three")
        with monkeypatch.context() as patched, pytest.raises(InterruptedError):
            patched.setattr(rekey, "_remove", lambda *_: (_ for _ in ()).throw(InterruptedError))
            rekey.rekey(path, "two")
    assert rekey.note(path, wanted[-1]) == ["kept the password that the copy off-site takes so far"]
    record(path, wanted[-1])
    assert rekey.note(path, wanted[-1]) == []
    assert rekey.rekey(path, wanted[-1]) == [
        "added the new password",
        "the new password opens the copy, and the former one is refused",
    ]
    assert [opens(path, one) for one in ("one", *wanted)] == [False] * len(wanted) + [True]
    assert [one.name for one in path.parent.glob("offsite*")] == [path.name]


def test_what_a_former_package_kept_is_read(path: Path) -> None:
    """It held all settings, of one password."""
    with offsite.connected(offsite.Settings.read(path)) as made:
        assert made.run("init").returncode == 0
    path.with_name("offsite-former.json").write_text(path.read_text())
    record(path, "two")
    rekey.rekey(path, "two")
    assert [opens(path, one) for one in ("one", "two")] == [False, True]


def test_passwords_of_another_repository_are_not_kept(path: Path) -> None:
    path.with_name("offsite-former.json").write_text(
        json.dumps([{**json.loads(path.read_text()), "repository": "elsewhere"}])
    )
    assert rekey.rekey(path, "one") == []
    assert not path.with_name("offsite-former.json").exists()


def test_what_opens_the_copy_is_kept_where_another_password_is_wanted_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is recorded nowhere else once site.yml has written another one."""
    with offsite.connected(offsite.Settings.read(path)) as made:
        assert made.run("init").returncode == 0
    rekey.note(path, "two")
    record(path, "two")

    def away(*_: object) -> list[str]:
        raise offsite.Refused("the storage is away")

    with monkeypatch.context() as patched, pytest.raises(offsite.Refused, match="away"):
        patched.setattr(rekey, "_keys", away)
        rekey.rekey(path, "one")
    rekey.rekey(path, "two")
    assert [opens(path, one) for one in ("one", "two")] == [False, True]


def test_where_nothing_was_copied_yet_the_new_password_is_recorded(path: Path) -> None:
    assert rekey.rekey(path, "two") == ["recorded the new password", "there is no repository yet"]
    assert json.loads(path.read_text())["password"] == "two"  # pragma: allowlist secret
    assert rekey.rekey(path, "two") == []
    # The repository that was there after all, perhaps not to be reached before, takes the former one.
    with offsite.connected(settings(path, "one")) as made:
        assert made.run("init").returncode == 0
    rekey.rekey(path, "two")
    assert [opens(path, one) for one in ("one", "two")] == [False, True]


def test_a_password_that_opens_nothing_is_not_reported_as_the_copys(path: Path) -> None:
    with offsite.connected(offsite.Settings.read(path)) as made:
        assert made.run("init").returncode == 0
    record(path, "two")
    with pytest.raises(offsite.Refused, match="neither backup_offsite_password nor a password that is known"):
        rekey.rekey(path, "two")
    assert opens(path, "one")


@pytest.mark.parametrize("text", ["", "[]", '{"password": "one"}'])  # pragma: allowlist secret
def test_a_file_that_cannot_be_read_is_left_to_the_role(path: Path, text: str) -> None:
    path.write_text(text)
    assert rekey.note(path, "two") == []
