"""A real replica set of one and a store, for these tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.real_database import Fleet, one_member, patch_scratch, unpacked

# By name, wherever they are. The last one mostly waits, for drivers that give up.
LONGEST = (
    "test_moment.py",
    "test_tls.py",
    "test_apps.py",
    "test_restore.py",
    "test_upgrade.py",
    "test_database_tls.py",
)


@pytest.fixture(scope="session")
def programs() -> Iterator[Path]:
    with unpacked() as folder:
        yield folder


@pytest.fixture(scope="session")
def running(programs: Path) -> Iterator[Fleet]:
    with one_member(programs) as fleet:
        yield fleet


@pytest.fixture
def fleet(running: Fleet, programs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    """The running set, empty, with an empty store."""
    patch_scratch(monkeypatch, programs)
    running.empty()
    for folder in ("dumps", "receipts"):
        shutil.rmtree(running.store.root / folder)
        (running.store.root / folder).mkdir()
    yield running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the modules that take longest: a process that gets one last would keep all others waiting."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
