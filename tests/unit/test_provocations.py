"""Every alarm is provoked on the lab, or says why not; and what the mails about it are read as."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from drills import provoke
from drills.provocations import NOT_PROVOKED, PROVOCATIONS
from drills.provoke import Outcome
from phoenix.alerting.incidents import Incident, Settings
from phoenix.alerting.messages import compose, undelivered
from tests.tools import coverage
from tests.tools.coverage import Alarms
from tests.unit.shared import TOP, read_yaml, rendered

PROVOKED = [alarm for one in PROVOCATIONS for alarm in one.alarms]


def test_each_alarm_is_provoked_or_says_why_not() -> None:
    raised = Alarms.read(rendered(coverage.ALARMS)).raised
    assert raised - {*PROVOKED, *NOT_PROVOKED} == set(), "add it to drills/provocations.py"
    assert {*PROVOKED, *NOT_PROVOKED} - raised == set(), "no such alarm"
    assert len(PROVOKED) == len(set(PROVOKED))
    assert set(PROVOKED) & set(NOT_PROVOKED) == set()


def test_lowered_limits_are_settings_of_the_role() -> None:
    known = set(read_yaml(TOP / "roles" / "alerting" / "defaults" / "main.yml"))
    assert {name for one in PROVOCATIONS for name in one.settings} | set(provoke.AT_ONCE) <= known


def incident(alarm: str, *, cleared: float = 0.0, host: str = "db1", chart: str = "phoenix_disk.root") -> Incident:
    info = "A disk is nearly full | above 85 % used"
    return Incident("platform", host, alarm, chart, info, "WARNING", "93 %", 100.0, 100.0, cleared=cleared)


def mail(*parts: tuple[Incident, str], time: float = 200.0) -> dict[str, Any]:
    """As the lab's receiver records what the notifier sends."""
    message = compose("platform", list(parts), time, Settings())
    return {"kind": "mail", "time": time, "subject": message.subject, "body": {"text": message.text}}


def test_a_mail_is_read_as_it_is_written() -> None:
    written = mail(
        (incident("phoenix_disk_full"), "raised"),
        (incident("phoenix_disk_full", host="db2"), "worse"),
        (incident("phoenix_test", cleared=190.0), "cleared"),
        (incident("phoenix_site", cleared=190.0), "brief"),
    )
    found = {(part.alarm, part.host): part for part in provoke.parts(written)}
    assert {key: part.over for key, part in found.items()} == {
        ("phoenix_disk_full", "db1"): False,
        ("phoenix_disk_full", "db2"): False,
        ("phoenix_test", "db1"): True,
        ("phoenix_site", "db1"): True,
    }
    part = found["phoenix_disk_full", "db1"]
    assert part.text == "WARNING: A disk is nearly full (root) = 93 %"
    assert (part.chart, part.time) == ("root", 200.0)


def test_a_message_about_a_message_is_none() -> None:
    message = compose("platform", [(incident("phoenix_site"), "raised")], 200.0, Settings())
    about = undelivered("hook", message, "410", 201.0, Settings())
    seen = {"kind": "mail", "time": 1.0, "subject": about.subject, "body": {"text": about.text}}
    assert list(provoke.parts(seen)) == []


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([], ""),
        ([("db1", "cleared")], ""),
        ([("db1", "brief")], ""),
        ([("db1", "raised")], "raised"),
        ([("db1", "raised"), ("db1", "cleared")], "over"),
        ([("db1", "raised"), ("db2", "raised"), ("db1", "cleared")], "raised"),
        ([("db1", "raised"), ("db1", "cleared"), ("db1", "raised")], "raised"),
    ],
)
def test_an_alarm_is_over_when_it_is_on_every_chart(events: list[tuple[str, str]], expected: str) -> None:
    seen = []
    for host, kind in events:
        cleared = 190.0 if kind in ("cleared", "brief") else 0.0
        seen += list(provoke.parts(mail((incident("phoenix_test", host=host, cleared=cleared), kind))))
    assert provoke.state(seen) == expected


GOOD = Outcome("phoenix_test", "a gauge is 1", False, {"alerting_burst": 100}, 12.4, "WARNING: A test | of", 30.0)


def test_the_report_keeps_what_other_runs_found(tmp_path: Path) -> None:
    failed = Outcome("phoenix_site", "nginx is stopped", True, {}, error="not raised")
    provoke.write([GOOD, failed], tmp_path)
    provoke.write([Outcome("phoenix_site", "nginx is stopped", True, {}, 40.0, "CRITICAL: x", 31.0)], tmp_path)
    assert [outcome.good for outcome in provoke.read(tmp_path).values()] == [True, True]
    text = (tmp_path / "alarms.md").read_text()
    assert (
        "| `phoenix_test` | fed: a gauge is 1; `alerting_burst: 100` | 12 s | WARNING: A test \\| of | 30 s |" in text
    )
    assert text.index("phoenix_site") < text.index("phoenix_test")
    assert "**never**" in provoke.row(failed)
    assert "**not raised**" in provoke.row(failed)
    assert not failed.good


def test_no_message_holds_what_netdata_takes_out() -> None:
    """It hands quotes on as blanks: "The fleet s lock"."""
    assert re.findall(r"^ +info: .*['\"`\\].*$", rendered(coverage.ALARMS), re.MULTILINE) == []
