"""The fleet at a glance, out of what its hosts printed."""

from __future__ import annotations

import json
from typing import Any

from phoenix.fleet import report


def result(**status: Any) -> dict[str, Any]:
    return {"stdout": json.dumps(status)}


HOSTS = {"lb1": ["lb"], "app1": ["app"], "control1": ["control"], "db1": ["db"]}
RESULTS = {
    "lb1": result(version="1.0.0-aaaa", system="running", failed=[], instances=[]),
    "app1": result(version="1.0.0-aaaa", system="running", release="r1", instances=["3000", "3900"]),
    "control1": result(version="1.0.0-aaaa", system="degraded", failed=["x.service"], backup="good", instances=[]),
    "db1": {"unreachable": True},
}


def test_a_row_for_each_host_and_silence_shows() -> None:
    lines = report.status(HOSTS, RESULTS)
    assert lines[0].split() == list(report.HEADINGS)
    assert lines[2].split() == ["app1", "app", "1.0.0-aaaa", "running", "r1", "-", "3000", "3900"]
    assert lines[4].split() == ["db1", "db", "-", "silent", "-", "-"]
    assert lines[0].index("SYSTEM") == lines[2].index("running")
    assert lines[5:] == ["backup on control1: good"]


def test_different_versions_of_phoenix_are_named() -> None:
    assert report.status(HOSTS, {**RESULTS, "db1": result(version="1.0.0-aaaa")})[5:] == ["backup on control1: good"]
    lines = report.status(HOSTS, {**RESULTS, "db1": result(version="0.9.0-bbbb")})
    assert "Phoenix's versions differ: 0.9.0-bbbb on db1; 1.0.0-aaaa on lb1, app1, control1." in lines[5]


def test_a_release_with_more_than_one_content_is_named() -> None:
    def lines(control: str, app2: str) -> list[str]:
        apps = {
            name: result(version="1", release="r1", checksum=f"sha256:{own}" if own else "", instances=[])
            for name, own in (("app1", "a" * 64), ("app2", app2))
        }
        archives = {"r1": f"sha256:{control}", "r0": f"sha256:{'c' * 64}"}
        found = report.status({**HOSTS, "app2": ["app"]}, {**apps, "control1": result(archives=archives)})
        return [line for line in found if "content" in line]

    assert lines("a" * 64, "a" * 64) == []
    assert lines("a" * 64, "") == [], "unpacked by an earlier version"
    (line,) = lines("a" * 64, "b" * 64)
    assert line.startswith("r1 has more than one content: sha256:aaaaaaaaaaaa… on app1, control1 (archive); sha256:bbb")
    assert len(lines("b" * 64, "a" * 64)) == 1


def test_what_is_out_of_rotation_shows() -> None:
    results = {**RESULTS, "control1": result(drained={"192.0.2.21:3000": "failed"})}
    assert "out of rotation: 192.0.2.21:3000: failed" in report.status(HOSTS, results)


def test_the_checks() -> None:
    assert report.failed_units(RESULTS) == ["control1: x.service; see systemctl status UNIT there"]
    good = {"db1": result(database="PRIMARY"), "db2": result(database="SECONDARY")}
    assert report.database_error(good) == ""
    assert "db3 silent" in report.database_error({**good, "db3": {"unreachable": True}})
    assert "db3 STARTUP2" in report.database_error({**good, "db3": result(database="STARTUP2")})
    assert report.database_error({"db1": result(database="PRIMARY"), "db2": result(database="PRIMARY")})


def test_who_has_a_floating_address_is_shown_and_checked() -> None:
    def fleet(**held: bool) -> dict[str, dict[str, str]]:
        return {host: result(version="1", floating={"192.0.2.10": here}) for host, here in held.items()}

    pair = {"lb1": ["lb"], "lb2": ["lb"]}
    assert "floating address 192.0.2.10: lb2" in report.status(pair, fleet(lb1=False, lb2=True))
    assert "floating address 192.0.2.10: lb1 and lb2" in report.status(pair, fleet(lb1=True, lb2=True))
    assert "floating address 192.0.2.10: on no load balancer" in report.status(pair, fleet(lb1=False, lb2=False))
    assert report.floating_error(fleet(lb1=False, lb2=True)) == ""
    assert "192.0.2.10 is on none" in report.floating_error(fleet(lb1=False, lb2=False))
    assert report.floating_error({"lb1": result(version="1")}) == ""
