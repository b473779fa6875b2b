"""The replacement of a host's SSH key, cut anywhere. That servers accept and refuse them: playbooks/rotate-keys.yml."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from phoenix.fleet import ssh_keys


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "db1", "-f", path], check=True)
    return path


def rotate(path: Path) -> None:
    ssh_keys.make_next(path)
    ssh_keys.switch(path)


def test_a_key_gets_a_next_one_and_becomes_the_former(key: Path) -> None:
    first = ssh_keys.show(key)
    assert first["present"].endswith(" db1") and first["next"] == first["former"] == ""
    assert ssh_keys.make_next(key) and not ssh_keys.make_next(key)
    both = ssh_keys.show(key)
    assert both["present"] == first["present"] and both["next"].endswith(" db1") and both["next"] != both["present"]
    assert ssh_keys.switch(key) and not ssh_keys.switch(key)
    assert ssh_keys.show(key) == {"present": both["next"], "next": "", "former": first["present"]}
    assert key.with_suffix(".pub").read_text().strip() == both["next"]
    assert not ssh_keys.make_next(key), "the one before has to be refused first"
    assert ssh_keys.forget(key) and not ssh_keys.forget(key)
    assert sorted(path.name for path in key.parent.iterdir()) == ["id_ed25519", "id_ed25519.pub"]
    assert key.stat().st_mode & 0o777 == 0o600


def test_a_host_without_the_key_gets_none(tmp_path: Path) -> None:
    path = tmp_path / "id_ed25519"
    assert not ssh_keys.make_next(path) and not ssh_keys.switch(path) and not ssh_keys.forget(path)
    assert set(ssh_keys.show(path).values()) == {""} and not list(tmp_path.iterdir())


@pytest.mark.parametrize("steps", range(12))
def test_cut_anywhere_it_is_completed_by_the_next_run(key: Path, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """A power cut before the n-th change of the folder: at every moment there is a key, and the former one is known."""
    first, left = ssh_keys.public(key), steps

    def counted(genuine: Any) -> Any:
        def act(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            if left == 0:
                raise InterruptedError
            left -= 1
            return genuine(*arguments, **options)

        return act

    with monkeypatch.context() as patched:
        for owner, name in ((os, "link"), (os, "chown"), (Path, "replace"), (Path, "write_text"), (Path, "unlink")):
            patched.setattr(owner, name, counted(getattr(owner, name)))
        try:
            rotate(key)
        except InterruptedError:
            pass
        else:
            assert steps >= 9, "the cut was never made"
    assert first in ssh_keys.show(key).values() and ssh_keys.public(key)
    rotate(key)
    shown = ssh_keys.show(key)
    assert shown["former"] == first and shown["present"] != first and not shown["next"]
    assert key.with_suffix(".pub").read_text().strip() == shown["present"]


class Ssh:
    """What ssh reports of a login, told by its last lines."""

    def __init__(self, said: str) -> None:
        self.stderr = said


@pytest.mark.parametrize(
    ("said", "accepted"),
    [
        ('Authenticated to 192.0.2.41 ([192.0.2.41]:22) using "publickey".\nTransferred: sent 2', True),
        ("phoenix-runner@192.0.2.41: Permission denied (publickey).", False),
        ("ssh: connect to host 192.0.2.41 port 22: Connection timed out", None),
        ("Host key verification failed.", None),
    ],
)
def test_what_is_neither_accepted_nor_refused_is_an_error(
    key: Path, monkeypatch: pytest.MonkeyPatch, said: str, accepted: bool | None
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: Ssh(said))
    if accepted is None:
        with pytest.raises(ValueError, match="gave no answer"):
            ssh_keys.accepted(key, "phoenix-runner", "192.0.2.41", 22, "ssh-ed25519 AAAA")
    else:
        assert ssh_keys.accepted(key, "phoenix-runner", "192.0.2.41", 22, "ssh-ed25519 AAAA") is accepted
