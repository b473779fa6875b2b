"""Log files on their way to the store, and there."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from phoenix.backup import clock, intake_logs, logs, sender, store
from tests.unit.backup.builders import DAY, config
from tests.unit.shared import inputs, trusted


def test_a_rotated_file_is_sent_once_though_it_is_compressed_later() -> None:
    assert logs.choose([Path("/a/x.log-1"), Path("/a/y.log-2.gz")]) == [
        ("x.log-1", Path("/a/x.log-1")),
        ("y.log-2", Path("/a/y.log-2.gz")),
    ]
    assert logs.choose([Path("/a/x.log-1.gz")])[0][0] == "x.log-1"


def test_exports_are_deleted_only_when_the_store_has_them() -> None:
    names = [f"a-{day}" for day in range(1, 10)]
    assert logs.drop_old(names, set(names), 7) == ["a-1", "a-2"]
    assert logs.drop_old(names, {"a-2"}, 7) == ["a-2"]
    assert logs.drop_old(names[:5], set(names), 7) == []


@pytest.mark.parametrize(
    ("name", "stream"),
    [
        ("access.log-20261124-1795521600", "access.log"),
        ("access.log-20261124-1795521600.gz", "access.log"),
        ("application.log-20261124-1.gz", "application.log"),
        ("mongod.log-20261124-1", "mongod.log"),
    ],
)
def test_files_of_one_log_belong_together(name: str, stream: str) -> None:
    assert intake_logs.stream_of(name) == stream


def test_logs_of_a_silent_host_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "read", lambda path, floor=0.0: 20 * DAY)
    held = store.Store(config(tmp_path))
    held.prepare()
    folder = tmp_path / "logs" / "lb1"
    folder.mkdir()
    notes = {f"access.log-{day}": {"number": day, "elapsed": day * DAY, "received": 0} for day in (1, 2, 15)}
    notes["error.log-1"] = {"number": 4, "elapsed": DAY, "received": 0}
    for name in notes:
        (folder / name).touch()
    (folder / ".received.json").write_text(json.dumps(notes))
    gone = intake_logs.prune(held, folder)
    assert sorted(one.name for one in gone) == ["access.log-1", "access.log-2"]
    assert sorted(path.name for path in folder.glob("*.log*")) == ["access.log-15", "error.log-1"]


def test_what_the_journal_dropped_before_it_was_exported_is_named() -> None:
    assert logs.dropped(since=1000.0, oldest=999.0) == logs.dropped(since=1000.0, oldest=0.0) == ""
    found = logs.dropped(since=1764122400.0, oldest=1764126000.0)
    assert "from 2025-11-26T02:00:00Z to 2025-11-26T03:00:00Z" in found and "base_journal_max_use" in found


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a stand-in for journalctl holds; given a cursor's file, it moves the cursor."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "held").write_text("")
    program = tmp_path / "bin" / "journalctl"
    program.write_text(
        f'#!/bin/sh\nfor word; do case $word in --cursor-file=*) echo s=1 >"${{word#*=}}";; esac; done\n'
        f"exec cat {tmp_path}/held\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path / "held"


def test_the_store_is_reached_at_its_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the role's settings, which an inventory's firewall_ssh_port becomes."""
    required = ("store_address", "fleet", "replica_set", "address", "members")
    given = {f"backup_{name}": name for name in required} | {"backup_store_port": 2222}
    variables = trusted(inputs("backup") | given)
    settings = Templar(loader=DataLoader(), variables=variables).template(trusted("{{ __backup_sender_settings }}"))
    ssh = tmp_path / "ssh"
    ssh.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > "${0%/*}/words"\n', encoding="utf-8")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    sender.Session(sender.Config(**settings), "true").process.wait()
    words = (tmp_path / "words").read_text(encoding="utf-8").split()
    assert words[words.index("-p") + 1] == "2222" and words[-2:] == [f"phoenix-backup@{settings['store']}", "true"]


def test_a_gap_of_the_journal_is_an_error_once_and_what_there_is_is_sent(
    journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sent: list[str] = []

    def send(settings: object, found: list[tuple[str, Path]]) -> list[str]:
        sent.extend(name for name, _ in found)
        return [name for name, _ in found]

    monkeypatch.setattr(sender, "send_files", send)
    settings = sender.Config(
        "app1", "store", "fleet.example", "phoenix", "", [], 0, "", 30, 60, [], ["phoenix@*.service"]
    )
    journal.write_text(f"{time.time() - 60:.6f} app1 phoenix-3000[1]: one\n")
    assert logs.run(settings, tmp_path, tmp_path / "log") == 0
    # Nothing is dropped where nothing was logged, however long ago.
    assert logs.run(settings, tmp_path, tmp_path / "log") == 0
    time.sleep(0.01)
    journal.write_text(f"{time.time():.6f} app1 phoenix-3000[1]: three\n")
    assert logs.run(settings, tmp_path, tmp_path / "log") == sender.SETTLED
    assert "dropped what was logged from" in capsys.readouterr().err
    assert sent
    assert logs.run(settings, tmp_path, tmp_path / "log") == 0
