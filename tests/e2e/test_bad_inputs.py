"""Bad input stops site.yml before anything changes, with a message that names the variable, the value and the fix."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.harness import plays

# What is found together is reported together: a run for each place at which errors are collected.
CASES: dict[str, dict[str, tuple[object, list[str]]]] = {
    "in the inventory": {
        "nginx_clientrate": (5, ["nginx_clientrate", "nginx_client_rate"]),
        "mongodb_app_password": ("", ["mongodb_app_password", "empty"]),
        "phoenix_spare_port": (3000, ["3000", "phoenix_spare_port"]),
        "nginx_unwanted_policy": ("blok", ["nginx_unwanted_policy", "blok", "block"]),
        "preflight_validated_version": ("99.0.0", ["preflight_validated_version: 99.0.0 is newer"]),
        "state_capacity": (99, ["99", "at most 12"]),
    },
    "of the hosts": {
        "preflight_min_disk_mb": (99999999, ["free disk space", "preflight_min_disk_mb=99999999"]),
        "preflight_min_memory_mb": (99999999, ["memory", "preflight_min_memory_mb=99999999"]),
        "preflight_distribution_versions": (["99"], ["Debian 12", "install Debian 99"]),
    },
    "in an archive": {
        "nodejs_archive_checksum": (
            "sha256:" + "0" * 64,
            ["nodejs_archive_checksum", "0" * 64, "f73585ed"],
        ),
    },
}


def run(sources: list[str], variables: dict[str, object], *options: str) -> subprocess.CompletedProcess[str]:
    first, *more = sources
    return plays.run(first, "site", *(part for path in more for part in ("-i", path)), *options, **variables)


def refused(sources: list[str], variables: dict[str, object]) -> str:
    """Run site.yml, check that it fails without a change on any host, and return its output."""
    done = run(sources, variables)
    assert done.returncode != 0, done.stdout
    changed = re.findall(r"changed=(\d+)", done.stdout)
    assert changed and not any(map(int, changed)), done.stdout
    return re.sub(r"\s+", " ", done.stdout + done.stderr)


@pytest.mark.parametrize("place", CASES)
def test_refused_before_anything_changes(place: str, inventory: str) -> None:
    errors = CASES[place]
    output = refused([inventory], {name: value for name, (value, _) in errors.items()})
    assert [word for _, words in errors.values() for word in words if word not in output] == [], output


def test_even_number_of_voters(inventory: str, tmp_path: Path) -> None:
    more = tmp_path / "more.yml"
    more.write_text("all: {children: {db: {hosts: {db4: {ansible_host: 10.186.0.34}}}}}\n")
    output = refused([inventory, str(more)], {})
    assert "4 voting members" in output or "even" in output, output
    assert "mongodb_members" in output


def test_password_of_special_characters_is_accepted(inventory: str) -> None:
    # A tag that no task has: the checks run, and nothing after them.
    done = run([inventory], {"mongodb_app_password": "@:/?#%é &="}, "--check", "--tags", "none")
    assert done.returncode == 0, done.stdout
