"""What the watch reports of the store."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from phoenix.backup import files, offsite, store, watch
from phoenix.common import prometheus
from tests.unit.backup.builders import HOUR, config, dump


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


def test_the_longest_silence_of_a_host_that_sends_logs_counts(tmp_path: Path) -> None:
    kept = store.Store(replace(config(tmp_path), hosts=("app1", "app2")))
    kept.prepare()
    now = time.time()
    for host, age in (("app1", 100), ("app2", 500), ("gone", 9000)):
        folder = tmp_path / "logs" / host
        folder.mkdir(exist_ok=True)
        os.utime(folder, (now - age, now - age))
    assert watch.logs_age(kept, now) == pytest.approx(500, abs=1)
    (tmp_path / "logs" / "app2" / ".received.json").touch()
    assert watch.logs_age(kept, now) == pytest.approx(100, abs=1)


def test_the_newest_dump_that_is_off_site_counts(tmp_path: Path) -> None:
    kept = store.Store(replace(config(tmp_path), offsite=True))
    kept.prepare()
    name = "phoenix_backup_offsite_newest_timestamp_seconds"
    assert watch.look(kept).metrics[name] == pytest.approx(time.time(), abs=60), "none yet, and a new store"
    files.write(tmp_path / offsite.RECORD, json.dumps({"copied": 2500.0, "received": 2000.0}))
    assert watch.look(kept).metrics[name] == 2000.0
    assert name not in watch.look(store.Store(config(tmp_path))).metrics


def test_every_gauge_is_described() -> None:
    assert set(watched(dump(1)).metrics) <= set(watch.GAUGES)
