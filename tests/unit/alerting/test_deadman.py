"""The dead man's switch: which states keep it from pinging."""

import time
from pathlib import Path
from typing import Any

import pytest

from phoenix.alerting import deadman


def charts(age: float = 2.0, **ages: float) -> dict[str, Any]:
    """What Netdata answers: each chart with its age in seconds."""
    known = {"phoenix_agent.beat": "phoenix.beat", "phoenix_silent.app1": "phoenix.silent"}
    known |= {"phoenix_silent.db1": "phoenix.silent", "phoenix_metrics.x": "phoenix.notify_waiting_age_seconds"}
    known |= {"phoenix_restarts.nginx": "phoenix.service_restarts"}
    return {
        name: {"id": name, "context": context, "last_entry": NOW - ages.get(name.replace(".", "_"), age)}
        for name, context in known.items()
    }


NOW = 1e9
WELL = {"waiting_age_seconds": 0, "channels": 2, "refusing_channels": 0}


@pytest.fixture
def metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "notify.prom"
    monkeypatch.setattr(deadman, "METRICS", file)
    monkeypatch.setattr(deadman, "ask", lambda _path: answer())
    return file


def answer(evaluated: float = 5.0) -> dict[str, Any]:
    """Netdata's, to either question, of a healthy parent that evaluated its alarms so many seconds ago."""
    alarms = {"a": {"last_updated": 0}, "b": {"last_updated": time.time() - evaluated}}
    return {"charts": charts(NOW - time.time()), "alarms": alarms}


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


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (charts(), ""),
        (charts(phoenix_restarts_nginx=9000), ""),
        (charts(61), "Phoenix's plugin last filled phoenix_agent.beat 1 min 1 s ago"),
        (charts(phoenix_silent_db1=300), "Phoenix's plugin last filled phoenix_silent.db1 5 min ago"),
        (charts(phoenix_metrics_x=90), "Phoenix's plugin last filled phoenix_metrics.x 1 min 30 s ago"),
        ({}, "Phoenix's plugin has no chart of phoenix.beat"),
        (
            {"a": {"id": "a", "context": "phoenix.beat", "last_entry": NOW}},
            "Phoenix's plugin has no chart of phoenix.silent",
        ),
    ],
)
def test_charts_that_stand_still(seen: dict[str, Any], reason: str) -> None:
    """Netdata answers, and its alarms on the last values stay clear."""
    assert deadman.frozen(list(seen.values()), NOW) == reason


@pytest.mark.parametrize(
    ("alarms", "reason"),
    [
        ([{"last_updated": NOW - 300}, {"last_updated": NOW - 5}], ""),
        ([{"last_updated": NOW - 300}, {"last_updated": 0}], "Netdata last evaluated an alarm 5 min ago"),
        ([{"last_updated": 0}], "Netdata evaluates no alarm"),
        ([], "Netdata evaluates no alarm"),
    ],
)
def test_alarms_that_nobody_evaluates(alarms: list[dict[str, float]], reason: str) -> None:
    """Netdata collects and answers, and its health has stopped, or was never configured."""
    assert deadman.unevaluated(alarms, NOW) == reason


def test_health_that_stands_still_keeps_it_from_pinging(metrics: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics.write_text("phoenix_notify_waiting_age_seconds 0\n")
    assert deadman.unwell(time.time()) == ""
    monkeypatch.setattr(deadman, "ask", lambda _path: answer(evaluated=120))
    assert deadman.unwell(time.time()) == "Netdata last evaluated an alarm 2 min ago"


def test_a_plugin_that_died_keeps_it_from_pinging(metrics: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics.write_text("phoenix_notify_waiting_age_seconds 0\n")
    monkeypatch.setattr(deadman, "post", lambda *_: pytest.fail("it pinged"))
    monkeypatch.setattr(deadman, "ask", lambda _path: {**answer(), "charts": charts(NOW - time.time() + 100)})
    assert deadman.ping({"url": "http://watcher.test"}, patience=0) == 1
    monkeypatch.setattr(deadman, "ask", lambda _path: {"what": "no charts"})
    assert deadman.ping({"url": "http://watcher.test"}, patience=0) == 1


def test_a_still_notifier(metrics: Path) -> None:
    assert deadman.unwell(time.time()).startswith("phoenix-notify has not written its metrics")
    metrics.touch()
    assert deadman.stuck(metrics.stat().st_mtime + 90) == "phoenix-notify has been still for 1 min 30 s"


def test_what_has_just_started_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = iter(["Netdata does not answer", "Phoenix's plugin has no chart", ""])
    posted: list[str] = []
    monkeypatch.setattr(deadman, "unwell", lambda now: next(reasons))
    monkeypatch.setattr(deadman, "POLL_S", 0.0)
    monkeypatch.setattr(deadman, "post", lambda url, body: posted.append(url))
    assert deadman.ping({"url": "http://watcher.test"}) == 0
    assert posted == ["http://watcher.test"]
