"""A host's files on their way into the store: the sender's program and the store's, with a pipe in place of ssh."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from phoenix.backup import files, intake_logs, logs, sender, store
from tests.unit.backup.builders import DAY, config
from tests.unit.shared import TOP

SSH = """#!{python}
# What sshd runs for the key of lb1.
import json, os, sys
sys.path.insert(0, {source!r})
from phoenix.backup import room, store
from phoenix.backup.serve import serve
room.JOURNAL = 0
free = {free}
if free:
    used = lambda: sum(one.stat().st_size for one in {root}.rglob("*.gz*"))
    store.Store.free = lambda self: free - used()
sys.exit(serve(store.Store(store.Config.read({settings})), "lb1", sys.argv[-1]))
"""


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> store.Store:
    """A store with room for 1000 bytes that ssh reaches."""
    root, settings = tmp_path / "store", tmp_path / "store.json"
    root.mkdir()
    kept = replace(config(root), min_free=5000)
    settings.write_text(json.dumps(asdict(kept)))
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    paths = {
        name: f"__import__('pathlib').Path({str(path)!r})" for name, path in (("root", root), ("settings", settings))
    }
    ssh.write_text(SSH.format(python=sys.executable, source=str(TOP / "src"), free=6000, **paths))
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", str(ssh.parent), prepend=":")
    found = store.Store(kept)
    found.prepare()
    return found


def settings(*patterns: str) -> sender.Config:
    return sender.Config("lb1", "store", "fleet.example", "phoenix", "", [], 0, "", 30, 60, list(patterns), [])


def rotated(folder: Path, name: str, size: int) -> Path:
    path = folder / name
    path.write_bytes(os.urandom(size))
    os.utime(path, (1, 1))
    return path


def test_a_file_that_the_store_refuses_holds_back_none_behind_it(held: store.Store, tmp_path: Path) -> None:
    """By its name, or as it is too large for what is free; nor does one that was rotated away."""
    here = tmp_path / "here"
    here.mkdir()
    found = [
        ("a name.gz", rotated(here, "1", 10)),
        ("files-20261101.tar.gz", rotated(here, "2", 3000)),
        ("access.log-1.gz", here / "gone meanwhile"),
        ("mongod.log-1.gz", rotated(here, "3", 10)),
    ]
    with pytest.raises(sender.PartlyRefused) as refusal:
        sender.send_files(settings(), found)
    assert refusal.value.held == ["mongod.log-1.gz"]
    assert "'a name.gz' is not the name of a log file" in str(refusal.value)
    assert "files-20261101.tar.gz: [Errno 28] 6000 bytes are free, 5000 are to stay free, and 3000" in str(
        refusal.value
    )
    assert (held.root / "logs" / "lb1" / "mongod.log-1.gz").exists()


def test_what_was_sent_beside_a_refused_file_is_recorded(held: store.Store, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    for name, size in (("access.log-20261101.gz", 3000), ("error.log-20261101.gz", 10)):
        rotated(here, name, size)
    with pytest.raises(sender.PartlyRefused, match=r"refuses access\.log-"):
        logs.run(settings(f"{here}/*.gz"), tmp_path, tmp_path / "exported")
    sent = json.loads((tmp_path / "sent.json").read_text())["names"]
    assert len(sent) == 1 and sent[0].startswith("error.log-20261101")


def test_what_expired_makes_room_for_what_arrives(held: store.Store, tmp_path: Path) -> None:
    """Else a full store would stay full: it refuses the file before which it would delete."""
    folder = held.root / "logs" / "lb1"
    folder.mkdir()
    notes: dict[str, dict[str, float]] = {}
    for number in (1, 2):
        name = f"access.log-2026110{number}.gz"
        rotated(folder, name, 900)
        notes[name] = {"number": number, "elapsed": 0.0, "received": 1.0}
    with held.books() as elapsed:
        pass
    for note in notes.values():
        note["elapsed"] = elapsed - 8 * DAY
    files.write(folder / ".received.json", json.dumps(notes))
    new = rotated(tmp_path, "new.gz", 60)
    assert sender.send_files(settings(), [("access.log-20261110.gz", new)]) == ["access.log-20261110.gz"]
    assert [path.name for path in folder.glob("*.gz")] == ["access.log-20261110.gz"]


def test_what_a_removed_host_sent_expires_as_a_whole(tmp_path: Path) -> None:
    """A host of the inventory may be away, and keeps the last file of each log; one that was removed does not."""
    held = store.Store(replace(config(tmp_path), hosts=["lb1"]))
    held.prepare()
    with held.books() as elapsed:
        pass
    for host, days in (("lb1", 8), ("app9", 8), ("app8", 6), ("INVENTORY", 8)):
        folder = tmp_path / "logs" / host
        folder.mkdir(exist_ok=True)
        rotated(folder, "state.state-1.tar.age", 10)
        note = {"number": 1, "elapsed": elapsed - days * DAY, "received": 1.0}
        files.write(folder / ".received.json", json.dumps({"state.state-1.tar.age": note}))
    (tmp_path / "logs" / ".app9.lock").touch()
    assert intake_logs.forget(store.Store(config(tmp_path))) == [], "of no host is known whether it was removed"
    assert intake_logs.forget(held) == ["app9/state.state-1.tar.age"]
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == [".app9.lock", "INVENTORY", "app8", "lb1"]
    assert all((tmp_path / "logs" / host / "state.state-1.tar.age").exists() for host in ("lb1", "app8", "INVENTORY"))


def test_twenty_builds_a_day_are_not_kept_for_a_week_each(tmp_path: Path) -> None:
    """The state of a host is sent whole at each change, all releases among it; logs are kept as they are."""
    held = store.Store(config(tmp_path))
    held.prepare()
    with held.books() as elapsed:
        pass
    folder = tmp_path / "logs" / "control1"
    folder.mkdir()
    day = elapsed // DAY - 2
    notes = {
        f"{log}-2026112{number}": {"number": number, "elapsed": (day + number / 10) * DAY, "received": 1.0}
        for number in range(1, 10)
        for log in ("state.releases", "access.log")
    }
    for name in notes:
        rotated(folder, name, 10)
    files.write(folder / ".received.json", json.dumps(notes))
    assert len(intake_logs.prune(held, folder)) == 8
    left = sorted(path.name for path in folder.iterdir() if path.name.startswith("state"))
    assert left == ["state.releases-20261129"] and len(list(folder.glob("access.log-*"))) == 9
