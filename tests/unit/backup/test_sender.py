"""What the agent reports of a failed dump."""

from __future__ import annotations

import pytest

from phoenix.backup import catalogue, cli, sender


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


def test_collections_whose_indexes_can_not_be_listed_are_named_with_the_command() -> None:
    text = sender.unlisted(["app.a.b", 'app.odd "name"'])
    assert "indexes of app.a.b, app.odd" in text
    assert 'db.getSiblingDB("app").runCommand({collMod: "a.b"})' in text
    assert text.endswith('runCommand({collMod: "odd \\"name\\""})')
    assert "c9 and 2 more" in sender.unlisted([f"app.c{number}" for number in range(12)])


def test_what_was_renamed_during_a_dump_is_named_with_what_to_do() -> None:
    """mongodump names neither; each $out is a rename of a collection with a name that nobody knows."""
    out = {"renameCollection": "app.tmp.agg_out.0a1b", "to": "app.report"}
    entries = [
        {"ns": "app.$cmd", "o": {"renameCollection": "app.new", "to": "app.items"}},
        {"ns": "app.$cmd", "o": {"create": "t"}},
        *({"ns": "app.$cmd", "o": {**out, "renameCollection": f"app.tmp.agg_out.{n}"}} for n in range(9)),
    ]
    text = catalogue.renamed(entries)
    assert ": app.new renamed to app.items; $out into app.report. It is tried again" in text
    assert "backup_schedule" in text and "$merge" in text
    assert catalogue.renamed(entries[1:2]) == ""
    many = [{"ns": "a.$cmd", "o": {"renameCollection": f"a.{n}", "to": f"a.r{n}"}} for n in range(8)]
    assert "a.7 renamed to a.r7; and 3 more." in catalogue.renamed(many)


def test_what_was_changed_during_a_dump_is_named() -> None:
    entries = [
        {"ns": "app.$cmd", "o": {"create": "t"}},
        {"ns": "app.$cmd", "o": {"create": "tmp.agg_out.0a1b"}},
        {"ns": "app.$cmd", "o": {"commitIndexBuild": "items", "indexes": []}},
        {"ns": "admin.$cmd", "o": {"applyOps": []}},
    ]
    assert "during the dump: app.t made; app.items indexed. It is tried again" in catalogue.changed(entries)
    assert catalogue.changed(entries[3:]) == ""


@pytest.mark.parametrize(
    ("error", "code"), [(sender.Failed("again"), sender.RETRY), (sender.Final("no"), sender.SETTLED)]
)
def test_only_what_may_succeed_is_tried_again_that_night(
    error: sender.Failed, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise error

    monkeypatch.setattr(sender, "dump", fail)
    monkeypatch.setattr(sender.Config, "read", lambda _: None)
    assert cli.main(["dump"]) == code
