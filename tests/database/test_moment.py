"""Any moment since the first dump is restored, with the real servers, shippers and store."""

from __future__ import annotations

import contextlib
import datetime
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bson import Timestamp

from phoenix.backup import files, fingerprint, restore, scratch
from tests.database.conftest import found, free_port
from tests.database.oplog import OPLOG_MB, Set, Writer, three_members, wait


@pytest.fixture(scope="module")
def running(programs: Path) -> Iterator[Set]:
    with three_members(programs) as members:
        yield members


@pytest.fixture
def members(running: Set, programs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Set]:
    monkeypatch.setattr(scratch, "TOOLS", found(programs, "mongodump").parent)
    monkeypatch.setattr(scratch, "SERVER", found(programs, "mongod"))
    monkeypatch.setattr(scratch, "PORT", free_port())
    running.reset()
    yield running
    for host in running.hosts:
        print(f"--- {host}\n{running.shippers.output(host) if (running.root / host / 'log').exists() else ''}")
    running.shippers.kill(*running.shippers.running)


def content(client: Any) -> dict[int, int]:
    return {one["_id"]: one["value"] for one in client.app.items.find()}


def test_random_moments_under_writes_are_what_the_writer_knew(members: Set) -> None:
    """The shipper is killed twice meanwhile: another member goes on where it ended, without a gap."""
    members.client.app.items.create_index("value")
    members.shippers.start(*members.hosts)
    with Writer(members) as writer:
        wait(lambda: writer.known, 30, "a first write")
        assert members.dump("manual-1").state == "good"
        begun = int(time.time()) + 1
        for _ in range(2):
            time.sleep(4)
            (victim,) = wait(members.shippers.shipping, 30, "a shipper")
            assert victim != "db1", "the primary ships, despite healthy secondaries"
            members.shippers.kill(victim)
            wait(lambda: members.shippers.shipping(), 30, "another shipper")
            members.shippers.start(victim)
        time.sleep(3)
        ended = int(time.time())
    assert writer.error is None
    members.shipped(ended)
    assert len(members.ranges()) == 1
    dice = random.Random(ended)
    moments = sorted(dice.sample(range(begun, ended), 4))
    print(f"moments: {moments}")
    for moment in moments:
        with members.at(moment) as client:
            assert content(client) == writer.at(moment)
    members.restore(time=datetime.datetime.fromtimestamp(moments[1], datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    assert content(members.client) == writer.at(moments[1])
