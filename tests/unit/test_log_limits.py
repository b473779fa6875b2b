"""Limits of what is logged, as the rendered templates set them: no line is lost, and no log fills a disk."""

from __future__ import annotations

import configparser
import re
from typing import Any

import pytest

from phoenix.instances import command
from phoenix.processes import units
from phoenix.processes.model import Process, Target
from tests.unit.shared import TOP, rendered

FACTS: dict[str, Any] = {"ansible_facts": {"virtualization_type": "kvm", "virtualization_role": "guest"}}
LOGROTATE = TOP / "roles" / "nginx" / "templates" / "logrotate.j2"


def instance() -> str:
    return rendered(TOP / "roles" / "phoenix" / "templates" / "phoenix@.service.d.conf.j2", FACTS)


@pytest.mark.usefixtures("ansible_plugins")
def test_the_journal_drops_no_line_of_an_instance() -> None:
    """By default it leaves out what a unit writes beyond 10,000 lines in 30 s, and so would the exported log."""
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(instance())
    assert unit["Service"]["LogRateLimitIntervalSec"] == "0"
    assert "LogRateLimitBurst" not in unit["Service"]


@pytest.mark.usefixtures("ansible_plugins")
def test_nor_one_of_another_process() -> None:
    process = Process("worker", "node worker.js", "256M")
    made = units.properties("worker@1", process, Target("r1", "c1", 1.0), command.settings(instance()))
    assert [one for one in made if one.startswith("LogRateLimit")] == ["LogRateLimitIntervalSec=0"]


def directives(**own: Any) -> dict[str, str]:
    """Of the block for nginx's logs, without its scripts."""
    block = re.search(r"^/var/log/nginx/\*\.log \{\n(.*?)^\}", rendered(LOGROTATE, own), re.DOTALL | re.MULTILINE)
    assert block
    lines = [line.strip() for line in block[1].partition("postrotate")[0].splitlines()]
    found = [line.partition(" ") for line in lines if line and not line.startswith("#")]
    return {name: value for name, _, value in found}


@pytest.mark.usefixtures("ansible_plugins")
def test_a_log_of_nginx_is_rotated_before_its_day_is_over_where_it_is_large() -> None:
    """maxsize and not size, which would end the rotation by days; nor minsize, which would put it off."""
    assert directives(nginx_log_max="7M").items() >= {"daily": "", "maxsize": "7M"}.items()
    assert not {"size", "minsize"} & directives().keys()


@pytest.mark.usefixtures("ansible_plugins")
def test_several_rotations_of_a_day_have_names_of_their_own_and_an_end() -> None:
    """By the date alone the second one would fail, and the log would grow."""
    found = directives(nginx_log_keep_files=20, nginx_log_keep_days=7)
    assert "%s" in found["dateformat"] and "dateext" in found
    assert (found["rotate"], found["maxage"]) == ("20", "7")
