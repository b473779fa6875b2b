"""The primary is stepped down and killed in the middle of the exchange: all or nothing, and no write lost."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from pymongo.errors import PyMongoError

from phoenix.backup import exchange
from phoenix.backup.order import Refused
from tests.database.members import Writing
from tests.database.oplog import Set, three_members, wait
from tests.harness.real_database import patch_scratch

TITLES = [f"c{number}" for number in range(6)]


@pytest.fixture(scope="module")
def members(programs: Path) -> Iterator[Set]:
    with pytest.MonkeyPatch.context() as patch, three_members(programs) as made:
        patch_scratch(patch, programs)
        for title in TITLES:
            made.client.app[title].insert_one({"_id": "dumped"})
        assert made.dump().state == "good"
        yield made


class Writer(Writing):
    """Inserts into all collections, and knows what a majority acknowledged."""

    def __init__(self, members: Set) -> None:
        super().__init__(members.connect(serverSelectionTimeoutMS=60000))
        self.acknowledged = set[str]()

    def run(self) -> None:
        number = 0
        while not self.over.is_set():
            number += 1
            name = f"{self.name}-{number}"
            with contextlib.suppress(PyMongoError):  # unacknowledged: it may be there or not
                self.client.app[TITLES[number % len(TITLES)]].insert_one({"_id": name})
                self.acknowledged.add(name)

    def __enter__(self) -> Self:
        super().__enter__()
        wait(lambda: self.acknowledged, 60, "a first write")
        return self


def primary(members: Set) -> str:
    """The primary's host."""

    def look() -> str:
        for host, address in members.hosts.items():
            client = members.alone(address, serverSelectionTimeoutMS=1000)
            with contextlib.closing(client), contextlib.suppress(PyMongoError):
                if client.admin.command("hello").get("isWritablePrimary"):
                    return host
        return ""

    return str(wait(look, 60, "a primary"))


def step_down(members: Set) -> None:
    address = members.hosts[primary(members)]
    client = members.alone(address, username="admin", password=members.password)
    with contextlib.closing(client), contextlib.suppress(PyMongoError):  # another election came first
        client.admin.command("replSetStepDown", 5, force=True)


def kill(members: Set) -> None:
    host = primary(members)
    members.servers[host].kill()
    members.servers[host].wait()
    members.launch(host)


@pytest.mark.parametrize("seed", range(1))
def test_an_election_in_the_middle_of_the_exchange(members: Set, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    dice = random.Random(seed)
    # Once it is known where everything is, each collection is looked for and renamed twice: the harm comes beside it.
    first, second = sorted(dice.sample(range(1, 1 + len(TITLES)), 2))
    harms = {first: (kill, step_down)[seed % 2], second: (step_down, kill)[seed % 2]}
    pause, counted, running = dice.uniform(0, 0.03), [0], list[threading.Thread]()
    titles = exchange.titles

    def harmed(client: Any, database: str) -> dict[str, Any]:
        seen = titles(client, database)
        if harm := harms.get(counted[0]):
            running.append(threading.Timer(pause, harm, [members]))
            running[-1].start()
            time.sleep(dice.choice([0, pause, 2 * pause]))
        counted[0] += 1
        return seen

    exchanged = exchange.exchange

    def exchange_harmed(*arguments: Any) -> None:
        monkeypatch.setattr(exchange, "titles", harmed)
        try:
            exchanged(*arguments)
        finally:
            monkeypatch.setattr(exchange, "titles", titles)

    monkeypatch.setattr(exchange, "exchange", exchange_harmed)
    for title in TITLES:
        members.client.app[title].replace_one({"_id": "live"}, {"_id": "live"}, upsert=True)
    whole = True
    with Writer(members) as writer:
        try:
            members.restore()
        except Refused as error:  # undone
            assert "the live data is as it was" in str(error)
            whole = False
        for thread in running:
            thread.join()
        known = len(writer.acknowledged)
        wait(lambda: len(writer.acknowledged) > known, 60, "writes after it")
    members.settled()
    assert len(running) == len(harms), "the exchange was over before"
    print(f"seed {seed}: {harms} after {pause:.3f} s, {counted[0]} looks, {'exchanged' if whole else 'undone'}")
    live = {title: set(members.client.app[title].distinct("_id")) for title in TITLES}
    for title in TITLES:
        assert "dumped" in live[title]
        assert ("live" not in live[title]) == whole, f"{title} is not as the others"
    kept = {name for title in members.client.app.list_collection_names() for name in
            members.client.app[title].distinct("_id")}  # fmt: skip
    assert "live" in kept and writer.acknowledged <= kept, f"lost: {sorted(writer.acknowledged - kept)[:5]}"
    assert not [name for name in members.client.app.list_collection_names() if name.startswith(exchange.BESIDE)]
