"""A host whose folders are temporary and whose systemd does nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from phoenix.common import systemd
from phoenix.instances import paths


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with the releases 1 and 2, on which nothing runs."""
    for name, path in {
        "TOP": tmp_path,
        "RELEASES": tmp_path / "releases",
        "LINKS": tmp_path / "instances",
        "CURRENT": tmp_path / "current",
        "STATE": tmp_path / "state",
        "UNITS": tmp_path / "units",
        "CONFIGURATIONS": tmp_path / "configurations",
        "CONFIGURATION": tmp_path / "configuration",
        "SHARED_ENVIRONMENT": tmp_path / "phoenix.env",
        "NODEJS": tmp_path / "nodejs" / "current",
    }.items():
        monkeypatch.setattr(paths, name, path)
    monkeypatch.setattr(systemd, "systemctl", lambda *arguments: "")
    for name in ("state", "units", "nodejs"):
        (tmp_path / name).mkdir()
    (tmp_path / "nodejs" / "current").symlink_to("8.11.1")
    for name in ("1", "2"):
        (tmp_path / "releases" / name).mkdir(parents=True)
        (tmp_path / "releases" / name / ".phoenix-start").touch()
    return tmp_path
