"""What the agent reports of a failed dump."""

from __future__ import annotations

from phoenix.backup import sender


def test_a_tools_complaint_is_found() -> None:
    time = "2026-11-24T13:14:00.979+0000"
    lines = [f"{time}\t[####]  app.items  1/1  (100.0%)", f"{time}\tFailed: oplog overflow: unable to capture", ""]
    assert sender.complaint(lines) == "Failed: oplog overflow: unable to capture"
    assert sender.complaint(["killed"]) == "killed"


def test_a_database_too_large_for_the_moment_names_the_setting() -> None:
    """A third was read in the time: the setting leaves three times that, with some room."""
    text = sender.too_large(300, 300, 10**9, 3 * 10**9)
    assert "1000000000 of 3000000000 bytes" in text and text.endswith("{minSnapshotHistoryWindowInSeconds: 1320}")
    assert sender.too_large(300, 310, 10**9, 10**9).endswith(": 600}")
