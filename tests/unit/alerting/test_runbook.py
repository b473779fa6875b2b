"""Each alarm's messages link to a section of the runbook: the section is there, and no section is for nothing."""

import re
from pathlib import Path

TOP = Path(__file__).parents[3]


def test_each_alarm_has_its_section_and_each_section_its_alarm() -> None:
    alarms = (TOP / "roles/alerting/templates/alarms.conf.j2").read_text(encoding="utf-8")
    # One that neither warns nor is critical only computes.
    raised = {
        found[1]
        for block in re.split(r"\n(?= *template:)", alarms)
        if (found := re.match(r" *template: (\w+)", block)) and re.search(r"^ +(warn|crit):", block, re.MULTILINE)
    }
    runbook = (TOP / "docs/runbook.md").read_text(encoding="utf-8")
    assert len(raised) > 20
    assert raised == set(re.findall(r"^## Alarm: (\w+)$", runbook, re.MULTILINE))
    assert f" {len(raised)} alarms as code" in (TOP / "README.md").read_text(encoding="utf-8")
