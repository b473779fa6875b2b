"""What an operator does as root stays readable for the store's own user."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from phoenix.backup import cli, store
from tests.unit.backup.builders import config, manifest
from tests.unit.shared import TOP

NAME = "20261124T010000Z-db2"
OTHER = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users reach, unlike pytest's own."""
    made = Path(tempfile.mkdtemp(prefix="phoenix-test-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def held(folder: Path) -> store.Store:
    """A store with a shrunken dump; of another user where the tests run as root."""
    root = folder / "store"
    root.mkdir()
    found = store.Store(config(root))
    found.prepare()
    dump = root / "dumps" / NAME
    dump.mkdir()
    (dump / "manifest.json").write_text(json.dumps(manifest(10)))
    (dump / "proof.json").write_text(json.dumps({"state": "shrunken", "reason": "app.items is missing"}))
    receipt = {"number": 1, "elapsed": 0.0, "received": 0.0, "kind": "nightly", "host": "db2", "request": ""}
    found.receipt(NAME).write_text(json.dumps(receipt))
    (folder / "store.json").write_text(json.dumps(asdict(found.config)))
    if os.geteuid() == 0:
        for path in (root, *root.rglob("*")):
            os.chown(path, OTHER, OTHER)
    return found


def test_an_accepted_dump_is_good_for_the_stores_user(folder: Path, held: store.Store) -> None:
    # The codec beforehand: a Python below root's home is out of the other user's reach.
    program = "import encodings.ascii, sys; from phoenix.backup import cli; sys.exit(cli.main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "--config", str(folder), "accept", NAME]
    done = subprocess.run(command, env={"PYTHONPATH": str(TOP / "src")}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    owner = held.root.stat()
    for path in held.root.rglob("*"):
        assert (path.stat().st_uid, path.stat().st_gid) == (owner.st_uid, owner.st_gid), path
    (found,) = held.dumps()
    assert found.state == "good" and found.accepted and "app.items is missing" in found.reason


def test_root_goes_on_as_the_owner(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this order: without root there is no way to change the groups."""
    done: list[tuple[str, object]] = []
    for call in ("setgroups", "setgid", "setuid"):
        monkeypatch.setattr(os, call, lambda value, call=call: done.append((call, value)))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(Path, "stat", lambda self: os.stat_result((0, 0, 0, 0, 990, 991, 0, 0, 0, 0)))
    cli.become_owner(folder)
    assert done == [("setgroups", []), ("setgid", 991), ("setuid", 990)]
    monkeypatch.setattr(os, "geteuid", lambda: 990)
    cli.become_owner(folder)
    assert len(done) == 3
