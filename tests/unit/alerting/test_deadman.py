"""The dead man's switch: which states keep it from pinging."""

import time
from pathlib import Path

import pytest

from phoenix.alerting import deadman

WELL = {"waiting_age_seconds": 0, "channels": 2, "refusing_channels": 0}


@pytest.fixture
def metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "notify.prom"
    monkeypatch.setattr(deadman, "METRICS", file)
    monkeypatch.setattr(deadman, "ask", lambda _path: {})
    return file


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, ""),
        ({"waiting_age_seconds": 700}, "a message has been waiting for 11 min 40 s"),
        ({"refusing_channels": 1}, ""),
        ({"refusing_channels": 2}, "every channel refuses its messages"),
        ({"channels": 0}, ""),
    ],
)
def test_the_notifiers_metrics(metrics: Path, changed: dict[str, float], reason: str) -> None:
    metrics.write_text("".join(f"phoenix_notify_{name} {value}\n" for name, value in {**WELL, **changed}.items()))
    assert deadman.unwell(time.time()) == reason


def test_a_still_notifier(metrics: Path) -> None:
    assert deadman.unwell(time.time()).startswith("phoenix-notify has not written its metrics")
    metrics.touch()
    assert deadman.unwell(metrics.stat().st_mtime + 90) == "phoenix-notify has been still for 1 min 30 s"
