"""What `make bench` makes of what it saw, and which of its themes run without being named."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from bench import __main__ as program
from bench import namespaces, pair, saturated
from bench.corpus.run import chosen
from bench.fleet import Row
from tests.harness.pair import masters

TAKEN = "(address_1) Entering BACKUP STATE (init)\n(address_1) Entering MASTER STATE\n"


def values(rows: list[Row]) -> dict[str, float]:
    return {row.name.partition(": ")[2]: row.value for row in rows}


def test_a_request_that_was_asked_again_is_not_the_slowest_of_the_first_attempts() -> None:
    """It took the client's own limit and pause, so that no figure of the design could be reached by it."""
    series = [(0.0, 0.01, 0), (0.1, 1.2, 0), (0.2, 3.8, 1), (0.3, 7.0, 2)]
    result: dict[str, Any] = {"sent": 4, "retried": 1, "failed": 1, "max_s": 7.0, "series": series}
    rows = pair.seen_by_clients("x", result)
    assert values(rows) == {
        "failed": 1,
        "failed with one retry": 1,
        "slowest at the first attempt": 1.2,
        "slowest with a retry": 3.8,
    }
    assert "3 s are the client's limit" in rows[-1].note and rows[-1].reference is None
    assert values(pair.seen_by_clients("x", {**result, "series": series[:2]}))["slowest with a retry"] == 0


def test_how_long_the_address_took() -> None:
    rows = pair.moved_rows("x", [0.1 * number for number in range(1, 21)], "of 20", 0.5)
    assert [row.value for row in rows] == [1.1, 2.0, 2.0] and {row.reference for row in rows} == {0.5}


def test_every_time_that_an_address_was_taken_is_a_move() -> None:
    assert masters(TAKEN * 2) == 2
    logs = {"lb1": "", "lb2": TAKEN}
    assert [row.value for row in saturated.rows(logs, "", at_home=False)] == [1, 0]
    assert [row.value for row in saturated.rows({"lb1": "", "lb2": ""}, "", at_home=True)] == [0, 1]


def test_an_hour_is_measured_by_name_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert set(program.BY_NAME) <= set(program.themes())
    assert not {"namespaces", "fleet"} & set(program.themes()), "programs of their own"


def test_a_theme_that_measures_nothing_here_fails_and_keeps_the_figures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "bench.json"
    monkeypatch.setattr("bench.__main__.FILE", file)
    monkeypatch.setattr("bench.demand.measure", lambda _: [])
    monkeypatch.setattr(sys, "argv", ["bench", "demand"])
    for name in ("PHOENIX_INVENTORY", "PHOENIX_URL"):
        monkeypatch.setenv(name, "inventories/lab")
    assert program.main() == 1 and not file.exists()


@pytest.mark.usefixtures("ansible_plugins")
@pytest.mark.parametrize("allowed", [True, False])
def test_the_namespaces_have_the_configuration_of_the_role(
    allowed: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(namespaces, "real_time", lambda: allowed)
    first, second = (namespaces.configuration(name, tmp_path / name, "fast") for name in namespaces.OWN)
    assert "unicast_src_ip 192.0.2.10\n" in first and "        192.0.2.12 min_ttl 255\n" in first
    assert "unicast_src_ip 192.0.2.12\n" in second and "        192.0.2.10 min_ttl 255\n" in second
    assert "advert_int 0.1\n" in first and f"file {tmp_path}/phoenix-a/nginx\n" in first
    assert "priority 250\n" in first and "priority 240\n" in second
    assert ("vrrp_rt_priority" in first) is allowed


def test_the_corpus_is_chosen_by_name_and_by_what_the_database_serves() -> None:
    served = {one.name for one in chosen("", "5.0.4")} - {one.name for one in chosen("", "6.0.5")}
    assert served == {"legacy-app"}
    assert [one.name for one in chosen("legacy-app", "5.0.4")] == ["legacy-app"]
    with pytest.raises(ValueError, match=r"MongoDB is 6\.0\.5, too new for legacy-app; .*LAB_PROFILE=mongodb-5\.0"):
        chosen("esm,legacy-app", "6.0.5")
    with pytest.raises(ValueError, match="no application is named none; there are: no-lock"):
        chosen("none", "6.0.5")
