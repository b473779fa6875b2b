"""The version of Phoenix: one number, what it changed, and whether an inventory follows."""

import re
from typing import Any

import pytest

from phoenix import __version__
from phoenix.fleet.inventory.model import Inventory
from phoenix.fleet.inventory.version import parse, unvalidated_version
from tests.unit.shared import TOP, read_yaml

SPECS = {"preflight": {"preflight_validated_version": {"type": "str"}}}
CHANGES = [
    {"version": "1.1.0", "change": "`a_x` is now `b_x`", "fix": "rename it"},
    {"version": "1.10.0", "change": "`b_y` is required", "fix": "set it"},
    {"version": "2.0.0", "change": "`b_z` is gone", "fix": "remove it"},
]
BREAKING = read_yaml(TOP / "roles" / "preflight" / "vars" / "main.yml")["__preflight_breaking_changes"]
INVENTORIES = sorted(path.parent.name for path in (TOP / "inventories").glob("*/hosts.yml"))
CHANGELOG = (TOP / "CHANGELOG.md").read_text(encoding="utf-8")
# Version to the text of its section, the newest first.
SECTIONS = dict(
    re.findall(r"^## \[?(\d\S*?)\]? - \d{4}-\d\d-\d\d\n(.*?)(?=^## |\Z)", CHANGELOG, re.MULTILINE | re.DOTALL)
)


def found(values: dict[str, Any], version: str, changes: list[dict[str, str]] | None = None) -> list[str]:
    """The messages for an inventory of one host with these variables."""
    inventory = Inventory(
        {"h1": values}, {}, SPECS, breaking_changes=CHANGES if changes is None else changes, version=version
    )
    return [message for _, message in unvalidated_version(inventory)]


def changed(messages: list[str]) -> list[str]:
    return [match[1] for message in messages if (match := re.match(r"breaking change in ([\d.]+): ", message))]


@pytest.mark.parametrize(
    ("validated", "current", "expected"),
    [
        ("1.0.0", "1.0.9", []),
        ("1.0.0", "1.1.0", ["1.1.0"]),
        ("1.1.0", "1.9.9", []),
        ("1.1.0", "1.10.0", ["1.10.0"]),
        ("1.9.0", "1.10.3", ["1.10.0"]),
        ("1.0.0", "2.0.1", ["1.1.0", "1.10.0", "2.0.0"]),
        ("2.0.0", "2.0.0", []),
    ],
)
def test_changes_since_the_validation_are_listed(validated: str, current: str, expected: list[str]) -> None:
    messages = found({"preflight_validated_version": validated}, current)
    assert changed(messages) == expected
    if expected:
        assert messages[0].startswith(f"preflight_validated_version: {validated} is older than this checkout")
        assert f"set preflight_validated_version: {current} in" in messages[0]
        assert len(messages) == 1 + len(expected)
    else:
        assert messages == []


def test_a_change_is_shown_with_its_fix() -> None:
    assert found({"preflight_validated_version": "1.0.0"}, "1.1.0")[1] == (
        "breaking change in 1.1.0: `a_x` is now `b_x`; rename it"
    )


def test_without_breaking_changes_a_newer_version_runs() -> None:
    assert found({"preflight_validated_version": "1.0.0"}, "3.0.0", []) == []


def test_an_inventory_without_the_variable_gets_the_line_and_all_changes() -> None:
    first, *rest = found({}, "1.10.0")
    assert "undefined" in first
    assert "set preflight_validated_version: 1.10.0 in its group_vars/all/main.yml" in first
    assert changed(rest) == ["1.1.0", "1.10.0"]


def test_an_older_checkout_is_refused() -> None:
    (message,) = found({"preflight_validated_version": "1.2.0"}, "1.1.9")
    assert "1.2.0 is newer than this checkout, Phoenix 1.1.9; update the checkout" in message


@pytest.mark.parametrize("value", ["1.2", "latest", "", 0.9, "1.2.0-rc1", ["1.2.0"]])
def test_an_invalid_version_is_refused(value: Any) -> None:
    (message,) = found({"preflight_validated_version": value}, "1.1.9")
    assert "is not a version such as 1.2.3" in message


def test_the_changelog_is_headed_by_this_version() -> None:
    assert next(iter(SECTIONS)) == __version__
    assert sorted(SECTIONS, key=parse, reverse=True) == list(SECTIONS)


@pytest.mark.parametrize("name", INVENTORIES)
def test_the_inventories_here_are_validated_for_this_version(name: str) -> None:
    values: dict[str, Any] = {}
    for path in (TOP / "inventories" / name / "group_vars" / "all").glob("*.yml"):
        values |= read_yaml(path)
    assert values.get("preflight_validated_version") == __version__
    assert found(values, __version__, BREAKING) == []


def test_breaking_changes_are_complete_in_order_and_in_the_changelog() -> None:
    versions = [parse(entry["version"]) for entry in BREAKING]
    assert versions == sorted(versions)
    for entry in BREAKING:
        assert set(entry) == {"version", "change", "fix"}, entry
        assert "Breaking" in SECTIONS[entry["version"]], f"CHANGELOG.md: {entry['version']} names no breaking change"
    # From the first version on that was checked so.
    named = {entry["version"] for entry in BREAKING}
    assert [
        one
        for one, text in SECTIONS.items()
        if parse(one) >= (0, 13, 0) and "### Breaking" in text and one not in named
    ] == []
