"""What the fleet needs of any host."""

from __future__ import annotations

from typing import Any

import pytest

from phoenix.fleet import fitness

FACTS = {"distribution": "Debian", "distribution_major_version": "12", "memtotal_mb": 512}


def errors(disk_mb: int = 2000, **own: Any) -> list[str]:
    return fitness.errors({**FACTS, **own}, ["11", "12"], disk_mb, 2000, 512)


def test_a_host_that_has_just_enough() -> None:
    assert errors() == []


@pytest.mark.parametrize(
    ("facts", "error"),
    [
        ({"distribution": "Ubuntu"}, "distribution: Ubuntu 12 isn't supported; install Debian 11, 12 (preflight_dist"),
        ({"distribution_major_version": "10"}, "distribution: Debian 10 isn't supported"),
        ({"disk_mb": 1999}, "free disk space on /: 1999 MiB is below preflight_min_disk_mb=2000; free some space"),
        ({"memtotal_mb": 511}, "memory: 511 MiB is below preflight_min_memory_mb=512; give the host more memory"),
    ],
)
def test_each_error_says_the_value_and_the_fix(facts: dict[str, Any], error: str) -> None:
    (found,) = errors(**facts)
    assert found.startswith(error)


def test_all_errors_are_reported_at_once() -> None:
    assert len(errors(disk_mb=0, distribution="Ubuntu", memtotal_mb=0)) == 3
