"""phoenix_processes and phoenix_schedules: what is refused, and what a host is given."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from phoenix.fleet import processes
from tests.tools import coverage

WORKER = {"command": "npm run worker"}
NIGHTLY = {"command": "node n.js", "calendar": "daily"}


def test_the_shortest_settings_are_enough() -> None:
    assert processes.errors({}, {}) == processes.errors({"worker": WORKER}, {"nightly": NIGHTLY}) == []


@pytest.mark.parametrize(
    ("given", "schedules", "message"),
    [
        ([], {}, "phoenix_processes is not a dictionary"),
        ({"Worker": WORKER}, {}, "not a name"),
        ({"a" * 31: WORKER}, {}, "not a name"),
        ({"backup": WORKER}, {}, "Phoenix's own"),
        ({"worker": "npm run worker"}, {}, "worker: not a dictionary"),
        ({"worker": {}}, {}, "command is missing"),
        ({"worker": {**WORKER, "calendar": "daily"}}, {}, "calendar is not an option; there are command, count"),
        ({"worker": {**WORKER, "count": 0}}, {}, "count = 0 is not a number from 1 to 64 or `one`"),
        ({"worker": {**WORKER, "count": "two"}}, {}, "count = 'two'"),
        ({"worker": {**WORKER, "count": True}}, {}, "count = True"),
        ({"worker": {**WORKER, "stop_timeout": -1}}, {}, "stop_timeout = -1"),
        ({"worker": {**WORKER, "memory": "lots"}}, {}, "memory = 'lots'"),
        ({"worker": {**WORKER, "environment": []}}, {}, "environment is not a dictionary"),
        ({"worker": {**WORKER, "environment": {"PORT": 1}}}, {}, "worker: PORT is set by Phoenix itself"),
        ({}, {"nightly": WORKER}, "phoenix_schedules: nightly: calendar is missing"),
        ({}, {"nightly": {**NIGHTLY, "timeout": "1h"}}, "timeout = '1h'"),
        ({"nightly": WORKER}, {"nightly": NIGHTLY}, "a process of phoenix_processes has this name"),
    ],
)
def test_an_error_names_the_setting_and_the_remedy(given: Any, schedules: Any, message: str) -> None:
    assert message in " ".join(processes.errors(given, schedules))


def test_no_process_is_named_like_a_template_of_phoenix() -> None:
    own = {match[1] for unit in coverage.units() if (match := re.fullmatch(r"phoenix-(.+)@\.\w+", unit.name))}
    assert own == set(processes.RESERVED)


def test_a_host_is_given_definitions_without_secrets_and_environments() -> None:
    worker = {**WORKER, "count": "one", "memory": "1G", "environment": {"KEY": 'a"b', "A": "own"}}
    found = processes.files({"worker": worker}, {"nightly": NIGHTLY}, {"A": True}, "mongodb://db", "256M", "# header")
    assert json.loads(found["processes.json"]) == {
        "worker": {"command": "npm run worker", "count": 1, "memory": "1G", "stop_timeout": 10},
        "nightly": {"command": "node n.js", "count": 1, "memory": "256M", "calendar": "daily", "timeout": 3600},
    }
    assert found["environment.worker"].splitlines() == [
        "# header", 'A="own"', 'DB_CONNECTION_STRING="mongodb://db"', 'KEY="a\\"b"',
        'NODE_OPTIONS="--max-old-space-size=768"',
    ]  # fmt: skip
    assert 'A="true"' in found["environment.nightly"]
    assert processes.files({}, {}, {"A": 1}, "mongodb://db", "256M", "") == {}, "the name of a revision stays"
