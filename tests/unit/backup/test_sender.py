"""What the agent reports of a failed dump."""

from __future__ import annotations

from phoenix.backup import sender


def test_a_tools_complaint_is_found() -> None:
    time = "2026-11-24T13:14:00.979+0000"
    lines = [f"{time}\t[####]  app.items  1/1  (100.0%)", f"{time}\tFailed: oplog overflow: unable to capture", ""]
    assert sender.complaint(lines) == "Failed: oplog overflow: unable to capture"
    assert sender.complaint(["killed"]) == "killed"
