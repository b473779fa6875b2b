"""The page that the contract's tests leave."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.provider import report

CONTRACT = "tests/provider/test_contract.py::test_a_host_is_made_once"


def ended(nodeid: str, outcome: str = "passed", when: str = "call", seconds: float = 1.25) -> Any:
    return SimpleNamespace(nodeid=nodeid, outcome=outcome, when=when, duration=seconds)


def test_each_rule_has_a_row_and_each_provider_a_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "PAGE", tmp_path / "reports" / "providers.md")
    plugin = report.Report()
    plugin.pytest_sessionfinish()
    assert not report.PAGE.exists()
    plugin.pytest_runtest_logreport(ended(f"{CONTRACT}[docker]", when="setup", seconds=9))
    plugin.pytest_runtest_logreport(ended(f"{CONTRACT}[docker]"))
    plugin.pytest_runtest_logreport(ended(f"{CONTRACT}[exec]", "failed", when="teardown"))
    plugin.pytest_runtest_logreport(ended("tests/provider/test_contract.py::test_forms[exec-list]"))
    plugin.pytest_runtest_logreport(ended("tests/provider/test_playbooks.py::test_other"))
    plugin.pytest_sessionfinish()
    lines = report.PAGE.read_text().splitlines()
    assert lines[4:] == [
        "| rule | docker | exec |",
        "|---|---|---|",
        "| a host is made once | passed, 1.2 s | **failed**, 1.2 s |",
        "| forms (list) | not run | passed, 1.2 s |",
    ]
