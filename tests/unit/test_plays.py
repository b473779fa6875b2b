"""Plays of the operation: what they stop, refuse and wait for."""

from __future__ import annotations

from fnmatch import fnmatch

import pytest

from tests.unit.shared import TOP, read_yaml

# The role that brings up what serves in each group.
OWNERS = {"lb": ["nginx"], "app": ["phoenix"], "db": ["mongodb"]}


@pytest.mark.parametrize("group", OWNERS)
def test_all_that_serves_on_a_removed_host_is_stopped(group: str) -> None:
    stopped = next(
        play["vars"]["remove_units"][group]
        for play in read_yaml(TOP / "playbooks" / "remove-host.yml")
        if "remove_units" in play.get("vars", {})
    )
    units = [
        path.name.removesuffix(".j2")
        for role in OWNERS[group]
        for path in (TOP / "roles" / role / "templates").glob("*.service.j2")
        if "\nRestart=always\n" in path.read_text(encoding="utf-8")
    ]
    assert units and [unit for unit in units if not any(fnmatch(unit, pattern) for pattern in stopped)] == []
