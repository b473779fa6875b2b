"""A restore that outlives its play has the fleet's lock for as long as it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from phoenix.backup import held
from phoenix.state import lock
from tests.harness.waiting import wait_for


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "EVERY_S", 0.01)


def expires(folder: Path) -> float:
    found = lock.holder(folder)
    return found.expires if found else 0.0


def test_it_is_renewed_while_the_restore_runs_and_no_longer(tmp_path: Path) -> None:
    token, _ = lock.acquire(tmp_path, "ann", "restore", 60)
    with held.held(token, tmp_path):
        wait_for(lambda: expires(tmp_path) > lock.now() + held.LAST_S, 60, "a renewal")
    # Of a play that died there is no more than that; one that lives takes its own lease.
    assert 0 < expires(tmp_path) - lock.now() <= held.LAST_S
    assert lock.renew(tmp_path, token, held.LEASE_S)
    assert lock.release(tmp_path, token)
    other, _ = lock.acquire(tmp_path, "bob", "deploy", 60)
    assert other


def test_a_lock_that_was_broken_is_left_to_its_next_holder(tmp_path: Path) -> None:
    token, _ = lock.acquire(tmp_path, "ann", "restore", 60)
    lock.release(tmp_path, token)
    other, _ = lock.acquire(tmp_path, "bob", "deploy", 60)
    before = expires(tmp_path)
    with held.held(token, tmp_path):
        pass
    assert expires(tmp_path) == before and lock.renew(tmp_path, other, 60)


def test_elsewhere_than_on_control_there_is_none(tmp_path: Path) -> None:
    with held.held("1-a", tmp_path / "absent"), held.held("", tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
