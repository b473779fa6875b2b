"""Whether a soak was good, and its report."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from soak import __main__ as program
from soak import report, run
from soak.record import IN_FLIGHT, Record, Struck, each_second, percentile
from tests.harness import plays

SECONDS = 60


def struck(**own: Any) -> Struck:
    known: dict[str, Any] = {
        "number": 1, "kind": "balancer-lost", "host": "", "limit_s": 60.0, "lasts": True, "moves": True, "at": 20.0,
        "ended": 30.0, "whole": 35.0, "seen": "lb1, its address on lb2 after 0.4 s",
    }  # fmt: skip
    return Struck(**{**known, **own})


def reads(*odd: tuple[float, float, int]) -> dict[str, Any]:
    """200 a second that took 10 ms, and under the fault 100 ms; and some that were not so."""
    series = [(n / 200, 0.1 if 20 <= n / 200 <= 35 else 0.01, 0) for n in range(SECONDS * 200)] + list(odd)
    failed = [one for one in odd if one[2] == 2]
    return {"sent": len(series), "due": len(series), "failed": len(failed), "retried": len(odd) - len(failed),
            "failures": [f"{due} s: status 502" for due, _, _ in failed], "first_failures": ["1.0 s: status 500"],
            "series": sorted(series)}  # fmt: skip


def writes(**own: Any) -> dict[str, Any]:
    series = [(n / 20, 0.02) for n in range(SECONDS * 20)]
    return {"acknowledged": len(series), "lost": [], "failed": 0, "gap_s": 0.1, "series": series, **own}


def record(**own: Any) -> Record:
    known = {"seed": 7, "seconds": float(SECONDS), "faults": [struck()], "reads": reads(), "writes": writes(),
             "equal": True}  # fmt: skip
    return Record(**{**known, **own})


def test_a_soak_is_good_when_nothing_failed_nothing_is_lost_and_all_is_as_before() -> None:
    assert record().wrong == []


@pytest.mark.parametrize(
    ("worse", "why"),
    [
        ({"reads": reads((5.0, 0.1, 2))}, "1 of 12001 reads failed: 5.0 s: status 502"),
        ({"reads": {**reads(), "sent": 100}}, "only 100 of 12000 reads were sent"),
        ({"reads": {}}, "no read was sent"),
        ({"writes": writes(lost=[7])}, "1 acknowledged writes are lost: [7]"),
        ({"writes": {}}, "no write was sent"),
        ({"writes": writes(series=[(5.0, 0.1), (31.0, 0.1)])}, "no write was acknowledged while it lasted"),
        ({"equal": False}, "data differ"),
        ({"faults": [struck(error="AssertionError: x")]}, "1 balancer-lost: AssertionError: x"),
        ({"faults": [struck(whole=None, missing=["db3 does not answer"])]}, "after 60 s: db3 does not answer"),
        ({"faults": []}, "no fault was provoked"),
        ({"differences": ["lb1 had 2 instances"]}, "lb1 had 2 instances"),
        ({"error": "interrupted"}, "interrupted"),
    ],
)
def test_anything_else_is_not(worse: dict[str, Any], why: str) -> None:
    found = "; ".join(record(**worse).wrong)
    assert why in found, found


# --- reads that were sent again


@pytest.mark.parametrize(("due", "latency"), [(19.9, 15.6), (20.0, 0.5), (25.0, 3.0), (29.9, 0.6)])
def test_what_was_in_flight_on_a_lost_balancer_may_fail_once(due: float, latency: float) -> None:
    assert record(reads=reads((due, latency, 1))).wrong == []


@pytest.mark.parametrize(
    ("due", "latency", "under"),
    [
        (4.0, 15.6, "under no fault"),
        (19.0, 0.6, "under no fault"),
        (30.5, 0.6, "balancer-lost"),
        (50.0, 0.6, "under no fault"),
    ],
)
def test_at_other_times_none_may(due: float, latency: float, under: str) -> None:
    (why,) = record(reads=reads((due, latency, 1))).wrong
    assert why == (
        f"1 reads failed at first, and no load balancer was lost then: due at {due} to {due} s ({under}): "
        "1.0 s: status 500"
    )


def test_nor_under_another_fault() -> None:
    assert record(faults=[struck(moves=False)], reads=reads((25.0, 0.6, 1))).wrong


def test_no_more_than_can_be_in_flight() -> None:
    assert record(reads=reads(*[(25.0, 0.6, 1)] * IN_FLIGHT)).wrong == []
    (why,) = record(reads=reads(*[(25.0, 0.6, 1)] * (IN_FLIGHT + 1))).wrong
    assert "65 reads failed at first" in why


def test_a_fault_that_takes_nothing_away_needs_no_write() -> None:
    short = struck(lasts=False, moves=False, at=20.0, ended=20.01)
    assert record(faults=[short]).wrong == []


# --- latencies


def test_latencies_in_calm_and_under_faults() -> None:
    found = record().latencies()
    assert set(found["calm"]) == {0.01} and set(found["faults"]) == {0.1}
    assert len(found["faults"]) == 15 * 200 + 1


@pytest.mark.parametrize(("limit", "judged"), [(None, False), (0.1, False), (0.09, True)])
def test_the_99th_percentile_of_all_reads_is_judged_where_a_limit_is_given(limit: float | None, judged: bool) -> None:
    """A quarter of them took 0.1 s, under the fault."""
    assert record(read_p99_limit_s=limit).wrong == judged * [
        "the 99th percentile of reads is 0.10 s, and at most 0.09 s is wanted; in calm it was 0.01 s "
        "(--p99 gives another limit)"
    ]


def test_a_limit_that_few_reads_exceed_is_kept() -> None:
    slow = [(5.0, 9.0, 0)] * 100
    assert record(reads=reads(*slow), read_p99_limit_s=0.1).wrong == []


def test_percentiles() -> None:
    assert percentile([], 0.99) == 0.0
    assert [percentile(list(range(100)), share) for share in (0, 0.5, 0.99, 1)] == [0, 50, 99, 99]


def test_by_second() -> None:
    assert each_second([(0.2, 2.0), (0.1, 1.0), (2.5, 3.0), (3.0, 4.0), (-1.0, 5.0)], 3) == [[1.0, 2.0], [], [3.0]]


# --- the report


def test_the_report_holds_what_was_seen(tmp_path: Path) -> None:
    found = report.write(record(left_out={"disk-full": "1 of 3 hosts that it needs are db"}), tmp_path)
    assert json.loads((tmp_path / "soak.json").read_text()) == found
    assert "series" not in found["reads"] and "series" not in found["writes"]
    (fault,) = found["faults"]
    assert (fault["recovered_s"], fault["p99_s"], fault["again"]) == (5.0, 0.1, 0)
    page = (tmp_path / "soak.md").read_text()
    assert "**good**" in page and "Left out: disk-full: 1 of 3" in page
    assert "| calm | 8999 | 10 ms | 10 ms | 0.01 s |" in page
    assert "| under faults | 3001 | 100 ms | 100 ms | 0.10 s |" in page
    rows = [line for line in page.splitlines() if line.startswith(("| fault |", "| 1 |"))]
    assert len(rows) == 2 and {len(line.split(" | ")) for line in rows} == {11}


def test_a_soak_that_is_not_good_says_why_first() -> None:
    bad = report.data(record(faults=[struck(whole=None, missing=["a | b"])], equal=False))
    page = report.markdown(bad)
    assert "**not good**" in page and "- the members' data differ" in page
    assert "**no**" in page and "a \\| b" in page


@pytest.mark.parametrize("own", [{}, {"reads": {}, "writes": {}}, {"faults": [struck(ended=None, whole=None)]}])
def test_the_picture_needs_nothing_from_elsewhere_and_is_the_same_each_time(
    own: dict[str, Any], tmp_path: Path
) -> None:
    found = report.data(record(**own))
    for name in ("one.svg", "two.svg"):
        report.picture(found, tmp_path / name)
    text = (tmp_path / "one.svg").read_text(encoding="utf-8")
    assert text == (tmp_path / "two.svg").read_text(encoding="utf-8")
    assert not re.search(r"<dc:(date|creator)>|<(image|script|style[^>]*>\s*@import)", text)
    links = re.findall(r"(?:href|src)=\"([^\"]*)\"|url\(([^)]*)\)", text)
    assert links and all((link or where).startswith("#") for link, where in links)
    assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"


def test_a_soak_that_never_began_has_a_report(tmp_path: Path) -> None:
    found = report.write(Record(1, error="the fleet is not whole"), tmp_path)
    assert "the fleet is not whole" in found["wrong"]
    assert not (tmp_path / "soak.svg").exists()


@pytest.mark.parametrize(("words", "limit"), [([], 0.25), (["--p99", "0.5"], 0.5)])
def test_make_soak_gives_the_limit(
    words: list[str], limit: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    soaked = record()
    monkeypatch.setattr(sys, "argv", ["soak", "--seed", "7", *words])
    monkeypatch.setenv("PHOENIX_INVENTORY", "inventories/lab")
    monkeypatch.setenv("PHOENIX_URL", "https://192.0.2.1")
    monkeypatch.setattr(program, "FOLDER", tmp_path)
    monkeypatch.setattr(program, "still", lambda _: nullcontext())
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(run, "plan", lambda *_: run.Plan(7, iter(()), {}))
    monkeypatch.setattr(run, "run", lambda *_: soaked)
    monkeypatch.setattr(plays, "run", lambda *_: subprocess.CompletedProcess([], 0, "", ""))
    assert program.main() == 0
    assert soaked.read_p99_limit_s == limit
