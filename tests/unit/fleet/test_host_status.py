"""What a host reports of its database member."""

from __future__ import annotations

from pathlib import Path

import pytest

from phoenix.database import replica_set
from phoenix.fleet import host_status

CONFIGURATION = "net:\n  port: {port}\n  bindIp: 127.0.0.1\nreplication:\n  replSetName: rs0\n"


def test_member_is_asked_on_its_configured_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int, str]] = []

    def role(address: str, port: int, ca: str) -> str:
        asked.append((address, port, ca))
        return "PRIMARY"

    monkeypatch.setattr(replica_set, "role", role)
    configuration = tmp_path / "mongod.conf"
    configuration.write_text(CONFIGURATION.format(port=28017), encoding="utf-8")
    assert host_status.database(configuration) == "PRIMARY"
    assert asked == [("127.0.0.1", 28017, "")]


def test_a_member_is_asked_as_its_server_was_started(tmp_path: Path) -> None:
    """Until a restart that is due, what is written is not what runs."""
    assert host_status.started("written", tmp_path) == "written", "none runs"
    (tmp_path / "started").touch()
    assert host_status.started("written", tmp_path) == "", "it runs without TLS"
    (tmp_path / "mongod.conf").write_text("of the start")
    assert host_status.started("written", tmp_path) == "of the start"


def test_the_recorded_checksum_of_each_archive_is_reported(tmp_path: Path) -> None:
    assert host_status.built(tmp_path / "absent") == {}
    for name in ("1.0.0.tar.gz", "1.0.0.tar.gz.sha256", ".2.0.0.tar.gz.sha256"):
        (tmp_path / name).write_text(f"{'a1' * 32}  1.0.0.tar.gz\n")
    assert host_status.built(tmp_path) == {"1.0.0": f"sha256:{'a1' * 32}"}


def test_host_without_a_member_reports_no_role(tmp_path: Path) -> None:
    assert host_status.database(tmp_path / "mongod.conf") == ""


def test_configuration_without_a_port_is_not_ready(tmp_path: Path) -> None:
    configuration = tmp_path / "mongod.conf"
    configuration.write_text("storage:\n  dbPath: /var/lib/mongodb\n", encoding="utf-8")
    assert host_status.database(configuration) == "NOT READY"
