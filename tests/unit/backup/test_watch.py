"""What the watch reports of the store."""

from __future__ import annotations

from phoenix.backup import store, watch
from phoenix.common import prometheus
from tests.unit.backup.builders import HOUR, dump


def watched(*known: store.Dump, now: float = 0.0, elapsed: float | None = None, free: int = 10**9) -> watch.Report:
    return watch.report(known, now, now if elapsed is None else elapsed, free, 26 * HOUR, 10**6)


def test_the_watch_reports_problems() -> None:
    assert watched(dump(1), now=25 * HOUR).problems == []
    assert "27.0 h old" in watched(dump(1), now=27 * HOUR).problems[0]
    assert watched(now=HOUR).problems == []  # a new store has its first night before it
    assert "none at all" in watched(now=27 * HOUR).problems[0]
    # A clock that was set back hides nothing.
    assert watched(dump(1), now=-5 * HOUR, elapsed=27 * HOUR).problems
    for state, result in (("failed", 1), ("empty", 1), ("bad", 2), ("unproven", 0), ("shrunken", 3), ("full", 4)):
        found = watched(dump(1), dump(2, state))
        assert found.metrics["phoenix_backup_last_result"] == result
        assert bool(found.problems) is (state != "unproven")
    never = watched(dump(1, elapsed=26 * HOUR), dump(2, "unproven"), now=27 * HOUR)
    assert "never proven" in never.problems[0] and never.metrics["phoenix_backup_last_result"] == 2
    assert watched(dump(1), free=5).metrics["phoenix_backup_last_result"] == 4
    assert watched(dump(1), dump(2, "shrunken", kind="safety")).problems == []


def test_metrics_are_prometheus_text() -> None:
    text = prometheus.exposition(watched(dump(1)).metrics)
    assert "\nphoenix_backup_newest_good_documents 100\n" in text
    assert all(line.startswith(("# TYPE phoenix_backup_", "phoenix_backup_")) for line in text.splitlines())
