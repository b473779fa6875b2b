"""The members' shared key, changed on three real servers: the set stays whole, and the old key is refused then."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from phoenix.database import keys
from tests.database.members import MEMBERS, Set, three
from tests.harness.real_database import found

OLD, NEW = secrets.token_hex(32), secrets.token_hex(32)


@pytest.fixture
def members(programs: Path) -> Iterator[Set]:
    with three(found(programs, "mongod"), OLD) as made:
        yield made


def test_the_set_is_whole_throughout_and_the_old_key_is_refused_afterwards(members: Set) -> None:
    members.settle()
    assert [members.accepts(MEMBERS[0], key) for key in (OLD, NEW)] == [True, False]
    for member in MEMBERS:
        members.write(member, keys.beside(members.content(member), NEW))
    assert keys.spread(map(members.content, MEMBERS), NEW)
    for member in reversed(MEMBERS):
        members.restart(member)
        members.settle()
    assert all(members.accepts(member, key) for member in MEMBERS for key in (OLD, NEW))
    for member in MEMBERS:
        members.write(member, f"{NEW}\n")
    for member in reversed(MEMBERS):
        members.restart(member)
        members.settle()
        assert [members.accepts(member, key) for key in (OLD, NEW)] == [False, True]
