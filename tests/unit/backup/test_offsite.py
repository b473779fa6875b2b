"""How restic is called, and what its failures mean. With the real program: tests/database/test_recovery.py."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from phoenix.backup import offsite
from phoenix.backup.store import Store
from tests.unit.backup.builders import DAY, config, dump


@pytest.mark.parametrize(
    ("repository", "expected"),
    [
        ("sftp:phoenix@backup.example:/srv/phoenix", ["-l", "phoenix", "backup.example"]),
        ("sftp:backup.example:relative", ["backup.example"]),
        ("sftp://phoenix@backup.example:2222//srv/phoenix", ["-p", "2222", "-l", "phoenix", "backup.example"]),
        ("sftp://[2001:db8::1]:22//srv", ["-p", "22", "2001:db8::1"]),
        ("sftp:phoenix@192.0.2.7:/phoenix", ["-l", "phoenix", "192.0.2.7"]),
    ],
)
def test_the_way_to_an_sftp_server(repository: str, expected: list[str]) -> None:
    words = offsite.ssh_command(repository, Path("/f")).split()
    assert words[-len(expected) - 2 :] == [*expected, "-s", "sftp"]
    assert {"StrictHostKeyChecking=yes", "UserKnownHostsFile=/f/known_hosts", "/f/key"} <= set(words)
    assert ("-l" in words) == ("-l" in expected) and ("-p" in words) == ("-p" in expected)


@pytest.mark.parametrize("repository", ["s3:https://s3.example/bucket", "rest:https://b.example/", "/srv/phoenix"])
def test_other_storages_need_no_ssh(repository: str) -> None:
    assert offsite.ssh_command(repository, Path("/f")) == ""


def test_what_a_failure_means() -> None:
    def said(text: str) -> str:
        return offsite.complaint(subprocess.CompletedProcess([], 1, "", text))

    assert "backup_offsite_password does not open" in said("Fatal: wrong password or no key found\n")
    missing = "Fatal: unable to open config file: stat /x/config: no such file\nIs there a repository at the following"
    assert "there is no repository in backup_offsite_repository" in said(missing)
    assert said("a\nb\n\nc\nd\n") == "b; c; d"
    assert said("") == "restic ended with 1"


def test_good_dumps_belong_off_site_but_not_those_brought_back() -> None:
    known = [dump(1), dump(2, "bad"), dump(3, "shrunken"), dump(4, kind="returned"), dump(5, "failed"), dump(6)]
    assert [one.number for one in offsite.wanted(known)] == [1, 6]


def test_it_is_verified_once_a_day() -> None:
    assert offsite.check_due(0, 20 * DAY)
    assert not offsite.check_due(20 * DAY, 20.5 * DAY)
    assert offsite.check_due(20 * DAY, 21 * DAY)
    assert offsite.check_due(20 * DAY, 19 * DAY), "the clock was set back"


SETTINGS = offsite.Settings("/srv/phoenix", "x" * 16, "fleet.example", 7)


class Repository(offsite.Restic):
    """A repository that holds these snapshots, each of 10000 bytes, and only notes what restic is called with."""

    def __init__(self, snapshots: list[dict[str, Any]]) -> None:
        self.found, self.calls = snapshots, list[tuple[str, ...]]()
        self.restored: Callable[[Path], int] = lambda _: 0

    def snapshots(self, _: str) -> list[dict[str, Any]]:
        return self.found

    def run(self, *words: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        self.calls.append(words)
        if words[0] == "restore":
            return subprocess.CompletedProcess([], self.restored(Path(words[3])), "", "no space left on device")
        size = {"total_size": 10000, "total_file_count": 2, "snapshots_count": 1}
        return subprocess.CompletedProcess([], 0, json.dumps(size), "")

    def connect(self, monkeypatch: pytest.MonkeyPatch) -> None:
        @contextlib.contextmanager
        def connected(_: offsite.Settings) -> Iterator[Repository]:
            yield self

        monkeypatch.setattr(offsite, "connected", connected)


def snapshot(hour: int, *names: str) -> dict[str, Any]:
    paths = [f"/var/lib/phoenix-backup/{name}" for name in names]
    return {"id": f"at{hour}", "time": f"2026-11-24T{hour}:00:00.1Z", "paths": paths}


WHOLE, EMPTY = ("clock.json", "dumps/20261124T010000Z-db2", "logs"), ("clock.json", "logs")


@pytest.mark.parametrize(
    ("snapshots", "expected"),
    [
        ([snapshot(10, *WHOLE), snapshot(11, *WHOLE)], "at11"),
        ([snapshot(10, *WHOLE), snapshot(11, *EMPTY), snapshot(12, *EMPTY)], "at10"),
        ([snapshot(10, *EMPTY), snapshot(11, *EMPTY)], "at11"),
    ],
)
def test_copies_of_a_store_that_began_again_do_not_hide_those_with_dumps(
    snapshots: list[dict[str, Any]], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where site.yml ran before recover.yml, the empty store is copied off-site too."""
    repository = Repository(snapshots)
    repository.connect(monkeypatch)
    assert offsite.copies(SETTINGS)[-1] == f"2026-11-24T{expected[2:]}:00:00Z"
    assert offsite.fetch(tmp_path, SETTINGS)["time"] == f"2026-11-24T{expected[2:]}:00:00Z"
    assert [words[:2] for words in repository.calls] == [("stats", expected), ("restore", expected)]


@pytest.mark.parametrize("free", [18192 + 499, 18192 + 500])
def test_a_copy_is_fetched_only_where_it_fits(free: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside what is to stay free; each file of it takes up to a block more than its content."""
    repository = Repository([snapshot(10, *WHOLE)])
    repository.connect(monkeypatch)
    root = tmp_path / "lib" / "phoenix-backup"
    asked = list[Path]()

    def usage(path: Path) -> Any:
        asked.append(path)
        return shutil._ntuple_diskusage(10**6, 10**6 - free, free)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    settings = replace(SETTINGS, min_free=500)
    if free >= 18692:
        assert offsite.fetch(root, settings)["time"] == "2026-11-24T10:00:00Z"
    else:
        with pytest.raises(offsite.Refused, match=r"18691 bytes free at .*phoenix-backup .* needs 18692: 18192 for"):
            offsite.fetch(root, settings)
        assert [words[0] for words in repository.calls] == ["stats"] and not root.exists()
    assert asked == [tmp_path]


@pytest.mark.parametrize("ended", ["restic failed", "stopped"])
def test_the_rest_of_a_copy_that_broke_off_is_removed(
    ended: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have filled the disk of a host that has to be set up yet."""

    def restored(target: Path) -> int:
        (target / "dumps").mkdir()
        (target / "dumps" / "part").write_bytes(b"x" * 1000)
        if ended == "stopped":
            sys.exit(143)
        return 1

    repository = Repository([snapshot(10, *WHOLE)])
    repository.restored = restored
    repository.connect(monkeypatch)
    with pytest.raises(SystemExit if ended == "stopped" else offsite.Refused):
        offsite.fetch(tmp_path, SETTINGS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dumps", [0, 1])
def test_nor_does_it_drop_them(dumps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository: Any = Repository([])
    store = Store(config(tmp_path))
    store.prepare()
    monkeypatch.setattr(offsite, "wanted", lambda _: [dump(1)][:dumps])
    offsite.copy(store, SETTINGS, repository)
    called = [words[0] for words in repository.calls]
    assert called == ["backup", "unlock", *["forget"] * dumps, "check"]
