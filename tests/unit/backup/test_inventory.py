"""The inventory on its way to the store, and back to where Ansible runs."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from phoenix.backup import inventory, sealed, state, store
from tests.unit.backup.builders import config


@pytest.fixture
def own(tmp_path: Path) -> Path:
    top = tmp_path / "own"
    (top / ".secrets").mkdir(parents=True)
    (top / ".secrets" / "mongodb-admin").write_text("word")
    (top / ".secrets" / "mongodb-admin").chmod(0o600)
    (top / ".git").mkdir()
    (top / ".git" / "config").touch()
    (tmp_path / "shared.yml").write_text("a: 1")
    (top / "group_vars").mkdir()
    (top / "group_vars" / "all.yml").symlink_to(tmp_path / "shared.yml")
    (top / "archive.tar").write_bytes(b"x" * (inventory.LARGEST + 1))
    return top


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> store.Store:
    (tmp_path / "store").mkdir()
    made = store.Store(config(tmp_path / "store"))
    made.prepare()

    @contextlib.contextmanager
    def sealing(target: Path, _: Path) -> Iterator[IO[bytes]]:
        with target.open("wb") as stream:
            yield stream

    monkeypatch.setattr(sealed, "sealing", sealing)
    return made


def names(archive: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as made:
        return made.getnames()


def test_all_is_packed_but_what_is_large(own: Path) -> None:
    archive, left_out = inventory.pack(own)
    assert names(archive) == [".secrets/mongodb-admin", "group_vars/all.yml"]
    assert left_out == ["archive.tar"]
    os.utime(own / ".secrets" / "mongodb-admin", (1, 1))
    assert inventory.pack(own)[0] == archive, "the same content, the same bytes"


def test_it_is_kept_once_as_long_as_it_is_the_same(own: Path, kept: store.Store, tmp_path: Path) -> None:
    recipients = tmp_path / "recipients"
    recipients.write_text("age1one\n")
    archive = inventory.pack(own)[0]
    assert inventory.keep(kept, archive, recipients)
    assert not inventory.keep(kept, archive, recipients)
    first = state.newest(kept.root / "logs" / inventory.FOLDER)["inventory"]
    (own / "hosts.yml").write_text("all: {}")
    assert inventory.keep(kept, inventory.pack(own)[0], recipients)
    assert state.newest(kept.root / "logs" / inventory.FOLDER)["inventory"] != first
    recipients.write_text("age1one\nage1two\n")
    assert inventory.keep(kept, inventory.pack(own)[0], recipients), "a new operator gets a copy"
    for path in (kept.root / "logs" / inventory.FOLDER).glob("state.*"):
        path.unlink()
    assert inventory.keep(kept, inventory.pack(own)[0], recipients), "the store has lost it"


def test_what_the_store_notes_of_it_reveals_nothing(own: Path, kept: store.Store, tmp_path: Path) -> None:
    recipients = tmp_path / "recipients"
    recipients.write_text("age1one\n")
    archive = inventory.pack(own)[0]
    inventory.keep(kept, archive, recipients)
    noted = json.loads((kept.root / "logs" / inventory.FOLDER / inventory.DIGEST).read_text())
    assert noted.keys() == {"salt", "digest"} and len(noted["salt"]) == 32


def revealed(archive: bytes, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    @contextlib.contextmanager
    def opened(*_: object) -> Iterator[tarfile.TarFile]:
        with tarfile.open(fileobj=io.BytesIO(archive)) as made:
            yield made

    monkeypatch.setattr(sealed, "opened", opened)
    return inventory.reveal(Path("x"), "key")


def test_what_is_missing_comes_back_and_nothing_is_replaced(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = revealed(inventory.pack(own)[0], monkeypatch)
    new = tmp_path / "new"
    (new / "group_vars").mkdir(parents=True)
    (new / "group_vars" / "all.yml").write_text("a: 2")
    assert inventory.bring_back(new, found) == ([".secrets/mongodb-admin"], ["group_vars/all.yml"])
    assert (new / "group_vars" / "all.yml").read_text() == "a: 2"
    secret = new / ".secrets" / "mongodb-admin"
    assert secret.read_text() == "word" and secret.stat().st_mode & 0o777 == 0o600
    assert (new / ".secrets").stat().st_mode & 0o777 == 0o700
    assert inventory.bring_back(new, found) == ([], ["group_vars/all.yml"]), "again changes nothing"


def test_nothing_is_written_outside_of_an_inventory(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not within an inventory"):
        inventory.bring_back(tmp_path, {"644 ../x": ""})
