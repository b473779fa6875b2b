"""A real replica set of one and a store, for these tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.real_database import Fleet, one_member, patch_scratch, unpacked


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
