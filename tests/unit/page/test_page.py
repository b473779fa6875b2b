"""The status page without a browser: what is collected, how it is drawn, and that nothing gets out of its place."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phoenix.page import cli, collect, layout, plot
from phoenix.state import deploys, desired
from tests.harness.picture import HOSTILE, NOW, host, picture

SVG = "{http://www.w3.org/2000/svg}"


def drawn(lines: list[plot.Line], start: float = 0.0, end: float = 3600.0) -> ET.Element:
    text = plot.chart("Title", "1/s", lines, start, end)
    return ET.fromstring(text.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


@pytest.mark.parametrize(
    ("highest", "expected"),
    [
        (0, [0, 0.25, 0.5, 0.75, 1.0]),
        (1, [0, 0.25, 0.5, 0.75, 1.0]),
        (9, [0, 2.5, 5, 7.5, 10]),
        (240, [0, 100, 200, 300]),
        (0.03, [0, 0.01, 0.02, 0.03]),
        (1234567, [0, 500000, 1000000, 1500000]),
    ],
)
def test_ticks_are_round_and_reach_the_highest(highest: float, expected: list[float]) -> None:
    assert plot.ticks(highest) == expected


def test_a_gap_breaks_a_line_and_one_value_is_a_dot() -> None:
    lines = drawn([plot.Line("a", [(0, 1.0), (900, 2.0), (1800, None), (2700, 4.0)])]).findall(f"{SVG}polyline")
    found = [line.get("points") for line in lines]
    assert found == ["48.0,134.5 214.0,93.0", "546.0,10.0 546.0,10.0"]


def test_values_are_within_the_axes_and_labelled() -> None:
    svg = drawn([plot.Line("a", [(0, 0.0), (3600, 7.0)])])
    labels = [text.text for text in svg.findall(f"{SVG}text")]
    assert {"0", "2", "4", "6", "8"} <= set(labels)
    (line,) = svg.findall(f"{SVG}polyline")
    points = [tuple(map(float, point.split(","))) for point in (line.get("points") or "").split()]
    assert points[0] == (plot.LEFT, plot.HEIGHT - plot.BOTTOM)
    assert plot.TOP < points[1][1] < points[0][1] and points[1][0] == plot.WIDTH - plot.RIGHT


def test_a_chart_without_data_says_so() -> None:
    texts = [text.text for text in drawn([plot.Line("a", [])]).findall(f"{SVG}text")]
    assert "no data" in texts
    assert "no data" not in [text.text for text in drawn([plot.Line("a", [(0, 0.0)])]).findall(f"{SVG}text")]


def test_more_lines_than_styles_are_refused() -> None:
    with pytest.raises(ValueError, match="4 lines at most, not 5"):
        plot.chart("Title", "", [plot.Line(str(n), []) for n in range(5)], 0, 1)


def test_hours_are_few_and_full() -> None:
    labels = [text.text or "" for text in drawn([], NOW - 86400, NOW).findall(f"{SVG}text")]
    assert [label for label in labels if ":" in label] == [f"{hour:02}:00" for hour in (21, 0, 3, 6, 9, 12, 15, 18)]


def test_texts_stay_texts() -> None:
    text = layout.page(picture(drained={"10.0.0.1:3000": HOSTILE}, release=HOSTILE, problems=[HOSTILE]))
    assert HOSTILE not in text and "http://" not in re.sub(r"&lt;.*?&gt;", "", text)
    assert text.count("<script") == 1 and text.count("&lt;script&gt;") == 7
    assert not re.search(r"<(img|iframe|object|embed|link (?!rel=\"icon\" href=\"data:,\"))", text)


SHOWN = (
    "2 open, 1 of them critical",
    "silent for 5 min 40 s",
    "does not answer",
    "2 s behind the primary",
    "1.4.2-0f3c9a1b",
    "rolled back",
    "not ended",
    "7 dumps, from 6 d 9 h ago to 9 h 12 min ago; the oplog reaches to 4 s ago",
    "5,200.0 MB, 18,400,000 documents",
    "40 %",
)


def test_the_page_shows_what_matters() -> None:
    text = re.sub(r"<[^>]+>", " ", layout.page(picture()))
    for expected in SHOWN:
        assert expected in " ".join(text.split()), expected


@pytest.mark.parametrize(
    ("gauges", "expected", "bad"),
    [
        ({}, "to 1 h ago", False),
        ({"oplog_age_seconds": 7.0, "oplog_gap_result": 1.0}, "to 1 h ago; the oplog reaches to 7 s ago", False),
        (
            {"oplog_age_seconds": 7.0, "oplog_gap_result": 2.0},
            "to 1 h ago; the oplog reaches to 7 s ago, but no good dump has followed its last gap",
            True,
        ),
    ],
)
def test_the_restorable_window_ends_with_the_oplog(gauges: dict[str, float], expected: str, bad: bool) -> None:
    dumps = {"good_dumps": 2.0, "oldest_good_age_seconds": 90000.0, "newest_good_age_seconds": 3600.0}
    charts = {f"phoenix_metrics.backup_{name}": {"value": value} for name, value in {**dumps, **gauges}.items()}
    shown = layout.backups(collect.Picture(NOW, hosts=[collect.Host("control1", 2.0, charts)]))
    assert layout.cell(f"2 dumps, from 1 d 1 h ago {expected}", "bad" if bad else "") in shown


def test_a_page_of_nothing_says_what_is_missing() -> None:
    text = layout.page(collect.Picture(NOW, ["Netdata does not answer: refused"]))
    for expected in (
        "This page is incomplete",
        "Netdata does not answer: refused",
        "No good dump is known",
        "no data",
        "No host is known",
    ):
        assert expected in text
    quiet = layout.page(picture(alarms=[]))
    assert '<span class="good">No alarm is open</span>' in quiet and "This page is incomplete" not in quiet


def test_the_script_is_the_one_that_the_policy_allows() -> None:
    import base64  # noqa: PLC0415 - of this test alone
    import hashlib  # noqa: PLC0415

    text = layout.page(picture())
    script = text.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text


def netdata(path: str) -> Any:
    """Netdata's answers, of a parent and one agent."""
    if path == "/api/v1/info":
        return {"mirrored_hosts_status": [{"hostname": "app1", "guid": "g", "reachable": True}]}
    if path.startswith("/api/v1/allmetrics"):
        return {
            f"phoenix_silent.{name}": {"dimensions": {"silent": {"value": silent}}}
            for name, silent in (("app1", 1.5), ("app2", 99))
        }
    if path.startswith("/host/g/api/v1/allmetrics"):
        return {"phoenix_metrics.backup_good_dumps": {"dimensions": {"value": {"value": 7}, "gone": {"value": None}}}}
    if path == "/host/app1/api/v1/alarms?active":
        alarm = {"chart": "c", "name": "n", "recipient": "r", "last_status_change": 5, "info": "i", "value_string": "v"}
        return {"alarms": {"a": {**alarm, "status": "WARNING"}, "b": {**alarm, "name": "m", "status": "CRITICAL"},
                           "c": {**alarm, "name": "o", "status": "UNDEFINED"}}}  # fmt: skip
    if path.startswith("/api/v1/data?chart=phoenix_fleet.capacity"):
        return {"data": [[20, 4], [10, None]]}
    raise OSError(f"no answer to {path}")


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(desired, "FOLDER", tmp_path)
    for name, function in (("read_release", desired.read_release), ("read_drained", desired.read_drained)):
        monkeypatch.setattr(desired, name, lambda f=function: f(tmp_path))
    monkeypatch.setattr(deploys, "read", lambda: read_record(tmp_path / "deploys.jsonl"))
    (tmp_path / "release").write_text("1.0.0-0123abcd\n")
    record = {"number": 1, "what": "deploy", "who": "ci", "version": "a", "previous": "", "began": 1.0}
    (tmp_path / "deploys.jsonl").write_text("".join(json.dumps({**record, "number": n}) + "\n" for n in (1, 2)))
    return tmp_path


read_record: Callable[[Path], list[deploys.Deploy]] = deploys.read


@pytest.mark.usefixtures("records")
def test_what_is_there_is_collected() -> None:
    found = collect.collect(netdata, NOW)
    assert [(one.name, one.silent) for one in found.hosts] == [("app1", 1.5), ("app2", 99)]
    assert found.gauge("backup_good_dumps") == found.hosts[0].gauge("phoenix_backup_good_dumps") == 7
    assert found.hosts[0].value("phoenix_metrics.backup_good_dumps", "gone") is None
    assert [(event["alarm"], event["status"]) for event in found.alarms] == [("m", "CRITICAL"), ("n", "WARNING")]
    assert found.capacity[0] == plot.Line("wanted", [(10.0, None), (20.0, 4.0)])
    assert found.rate[0].points == []
    assert (found.release, [deploy.number for deploy in found.history]) == ("1.0.0-0123abcd", [2, 1])
    assert found.problems == ["app2: Netdata does not say which alarms it has"]


def test_what_is_not_there_is_named(records: Path) -> None:
    (records / "release").write_text("../etc\n")

    def silent(path: str) -> Any:
        raise OSError("refused")

    found = collect.collect(silent, NOW)
    assert found.problems[0] == "Netdata does not answer: refused"
    assert "the desired state can't be read" in found.problems[1]
    assert [deploy.number for deploy in found.history] == [2, 1], "what can be read is shown all the same"


def test_the_page_is_written_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "FILE", tmp_path / "index.html")
    monkeypatch.setattr(cli, "collect", lambda: picture(problems=["x is missing"]))
    assert cli.main(["write"]) == 0
    assert (tmp_path / "index.html").read_text() == layout.page(picture(problems=["x is missing"]))
    assert "x is missing" in capsys.readouterr().err
    assert cli.main([]) == 64


def test_the_fullest_disk_counts() -> None:
    full = host(
        "a", phoenix_disk__var={"used": 9.0, "available": 1.0}, phoenix_disk__empty={"used": 0.0, "available": 0.0}
    )
    assert layout.fullest(full) == 90.0
    assert layout.fullest(collect.Host("b", 0.0)) is None


def test_hosts_on_demand_are_shown_where_there_may_be_any() -> None:
    assert "Hosts on demand" not in layout.page(collect.Picture(NOW))
    status = {"wanted": 2, "limit": 3, "created": 1, "creations_per_hour": 10, "away_seconds": 90}
    made = {"name": "extra-1", "state": "serving", "since": NOW - 120, "address": HOSTILE, "reason": ""}
    notes = [{"text": "create extra-2: a quota", "at": NOW}]
    shown = layout.page(collect.Picture(NOW, demand={**status, "hosts": [made], "notes": notes}))
    for text in ("2 wanted of 3", "extra-1", "create extra-2: a quota", "has not answered for 1 min 30 s"):
        assert text in shown
    assert HOSTILE not in shown
