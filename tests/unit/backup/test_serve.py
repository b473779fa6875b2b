"""What a host's key may do at the repository."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from phoenix.backup import store
from phoenix.backup.serve import serve
from tests.unit.backup.builders import config


def test_a_key_may_only_add(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("", "rm -rf /", "dump", "list", "await ../../etc", "logs now", "prove", "status"):
        assert serve(store.Store(config(tmp_path)), "db2", command) == 1
        assert json.loads(capsys.readouterr().out)["answer"] == "refused"
