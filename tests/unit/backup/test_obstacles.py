"""What hinders a restore is found before anything is touched; what moves, moves to a known place."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from phoenix.backup import aside, cli, definitions, exchange, fingerprint, members, plan, prove, restore, store, watch
from phoenix.backup.order import BESIDE, Order, Refused
from tests.unit.backup.builders import config, dump, manifest

PLAIN = fingerprint.Collection(1, 10, "00", ["_id_"])
SERIES = fingerprint.Collection(None, None, None, [])
STAMP = "20261124T010000Z"


def told(names: dict[str, fingerprint.Collection], gone: list[str], **live: str) -> list[str]:
    kinds = {f"app.{title}": plan.Live(kind) for title, kind in live.items()}
    return plan.obstacles(names, gone, kinds, STAMP)


def test_kinds_that_cannot_change_places_are_named() -> None:
    assert told({"app.a": PLAIN}, [], a="collection") == []
    assert told({"app.a": PLAIN, "app.b": SERIES}, []) == []
    assert "app.a is a view now" in told({"app.a": PLAIN}, [], a="view")[0]
    assert "app.a is a time series" in told({"app.a": SERIES}, [], a="timeseries")[0]
    assert "app.b is a time series" in told({"app.a": PLAIN}, ["app.b"], b="timeseries")[0]
    assert "something else now" in told({"app.a": SERIES}, [], a="collection")[0]
    assert "time series now, and a collection in the dump" in told({"app.a": PLAIN}, [], a="timeseries")[0]
    long = "x" * 230
    assert "too long a name" in told({f"app.{long}": PLAIN}, [])[0]
    assert len(told({"app.a": PLAIN, "app.b": PLAIN}, [], a="view", b="view")) == 2


def test_a_live_time_series_stays_where_it_is_said_so() -> None:
    """The refusal names the way, which needs a name that the server accepts for its buckets."""
    live = {f"app.{title}": plan.Live("timeseries") for title in ("a", "b", "x" * 210)}
    for names, gone in (({"app.a": SERIES}, []), ({}, ["app.b"])):
        (refused,) = plan.obstacles(names, gone, live, STAMP)
        assert "-e phoenix_restore_series=beside" in refused
        assert ("app.phoenix_restored.STAMP.a" in refused) == bool(names)
        assert plan.obstacles(names, gone, live, STAMP, BESIDE) == []
    long = f"app.{'x' * 210}"
    (refused,) = plan.obstacles({long: SERIES}, [], live, STAMP, BESIDE)
    assert "too long a name" in refused
    assert plan.obstacles({}, [long], live, STAMP, BESIDE) == [], "it only stays"
    (refused,) = plan.obstacles({long: SERIES}, [], live, STAMP)
    assert "can't be renamed" in refused
    assert len(plan.obstacles({"app.a": PLAIN}, [], live, STAMP, BESIDE)) == 1


def test_what_a_full_restore_would_be_refused_for_is_told_in_the_night(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As long as the database is as it was: by name, in the list, and no problem of the backup."""
    long, aside = "x" * 230, f"phoenix_aside.{STAMP}.{'y' * 200}"
    spaces = {"app.a": PLAIN, "app.metrics": SERIES, f"app.{long}": PLAIN, f"app.{aside}": PLAIN}
    held = {**manifest(1), "namespaces": fingerprint.to_json(spaces)}
    kept = store.Store(config(tmp_path))
    kept.prepare()
    for number, (state, namespaces) in enumerate((("bad", held), ("shrunken", held), ("good", manifest(1))), 1):
        folder = tmp_path / "dumps" / f"2026112{number}T010000Z-db2"
        folder.mkdir()
        (folder / "manifest.json").write_text(json.dumps(namespaces))
        receipt = {"number": number, "elapsed": 0.0, "received": 0.0, "kind": "nightly", "host": "db2", "request": ""}
        kept.receipt(folder.name).write_text(json.dumps(receipt))
        prove.settle(kept, kept.dumps()[-1], state, "it is so", 1.0)
    bad, shrunken, good = kept.dumps()
    assert bad.conditions == good.conditions == []
    assert [one.split(" ", 1)[0] for one in shrunken.conditions] == ["app.metrics", f"app.{long}"]
    assert capsys.readouterr().out.count("restorable with a condition: ") == 2
    _, shown_bad, shown, shown_good = watch.table(kept).splitlines()
    assert "condition" not in shown_bad + shown_good
    assert "it is so; restorable with a condition: app.metrics is a time series, which can't be renamed" in shown
    # An operator's word changes none of it.
    assert prove.accept(kept, shrunken.name) == 0
    accepted = kept.dumps()[1]
    assert (accepted.state, accepted.conditions) == ("good", shrunken.conditions)
    assert not any("condition" in problem for problem in watch.look(kept).problems)


def test_what_restores_left_is_not_restored() -> None:
    spaces = dict.fromkeys(("app.a", f"app.phoenix_aside.{STAMP}.a", "app.phoenix_restoring.a"), PLAIN)
    held: dict[str, Any] = {**manifest(1), "namespaces": fingerprint.to_json(spaces)}
    assert list(plan.wanted(dump(1, manifest=held), "")) == ["app.a"]


def rooms(*free: int | None) -> list[members.Room]:
    return [members.Room(f"db{number}", one, 0 if one is None else 1000) for number, one in enumerate(free, 1)]


def test_room_is_looked_for_on_every_member() -> None:
    assert members.obstacles(rooms(2000, 2000, 2000), 1000, 500) == []
    found = members.obstacles(rooms(2000, 1699, 100), 1000, 500)
    assert [one.split(" ")[0] for one in found] == ["db2", "db3"] and "needs up to 1700" in found[0]


def test_a_member_that_is_away_must_be_able_to_catch_up() -> None:
    assert members.obstacles(rooms(9000, None), 1000, 0) == []
    assert "could not catch up" in members.obstacles(rooms(9000, None), 1001, 0)[0]
    assert len(members.warnings(rooms(9000, 9000, None), 1001)) == 2
    assert members.warnings(rooms(9000), 1000) == []


def test_what_leaves_its_place_goes_home_or_aside() -> None:
    homes = {"copy": "phoenix_restoring.a"}
    aside = f"phoenix_aside.{STAMP}.a"
    assert exchange.park("a", "copy", homes, STAMP, []) == "phoenix_restoring.a"
    assert exchange.park("a", "old", homes, STAMP, ["a"]) == aside
    assert exchange.park("a", "gap", homes, STAMP, ["a", aside]) == f"phoenix_aside.{STAMP}-2.a"
    assert exchange.aside(STAMP, "system.js") == f"phoenix_aside.{STAMP}.system:js"
    assert exchange.own(aside) and exchange.own("phoenix_restoring.a") and not exchange.own("phoenix")


@pytest.mark.parametrize("stamp", ["", "x", "../x", "20261124T010000Z.a", "20261124"])
def test_only_a_stamp_names_what_is_set_aside(stamp: str) -> None:
    with pytest.raises(Refused, match="is not a stamp"):
        aside._held(None, stamp)


def test_an_index_without_a_collation_stays_so() -> None:
    assert definitions.indexed({"key": {"a": 1}, "ns": "app.a"}, True) == {
        "key": {"a": 1},
        "collation": {"locale": "simple"},
    }
    assert definitions.indexed({"key": {"a": 1}}, False) == {"key": {"a": 1}}
    assert definitions.indexed({"collation": {"locale": "de"}}, True) == {"collation": {"locale": "de"}}


def test_an_earlier_manifest_knows_no_stored_functions() -> None:
    seen = {"app.a": PLAIN, "app.system.js": PLAIN}
    assert fingerprint.comparable({"format": 1}, seen) == {"app.a": PLAIN}
    assert fingerprint.comparable({"format": 2}, seen) == seen
    assert not fingerprint.internal("system.js") and fingerprint.internal("system.views")
    order = Order("", "", [])
    assert "--nsExclude=*.system.js" in restore._selection(order, {"app.a": PLAIN})[1]
    assert "--nsExclude=*.system.js" not in restore._selection(order, seen)[1]


def test_an_order_in_a_file_is_gone_once_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "order.json"
    path.write_text('{"user": "admin", "password": "x", "members": []}')
    seen: list[bool] = []

    def run(_: object, order: Order) -> str:
        seen.append(path.exists() or order.password != "x")
        return "done"

    monkeypatch.setattr(restore, "run", run)
    assert cli.on_restore(None, Namespace(verb="restore", order=path)) == 0  # type: ignore[arg-type]
    assert seen == [False]


def test_whether_the_store_has_every_second_is_an_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "order.json"
    for covered in (True, False):
        path.write_text('{"user": "admin", "password": "x", "members": []}')
        monkeypatch.setattr(plan, "covered", lambda *_, seen=covered: seen)
        assert cli.on_restore(None, Namespace(verb="covered", order=path)) == int(not covered)  # type: ignore[arg-type]
