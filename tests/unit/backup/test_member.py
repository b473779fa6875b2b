"""Which member dumps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix.backup import member


def members(*rows: tuple[str, str, float]) -> list[member.Member]:
    return [member.Member(*row) for row in rows]


@pytest.mark.parametrize(
    ("own", "rows", "dumps"),
    [
        ("b", [("a", "primary", 100.0), ("b", "secondary", 99.0), ("c", "secondary", 100.0)], True),
        ("a", [("a", "primary", 100.0), ("b", "secondary", 99.0)], False),
        ("a", [("a", "primary", 100.0), ("b", "secondary", 20.0)], True),  # the secondary is behind
        ("b", [("a", "primary", 100.0), ("b", "secondary", 20.0)], False),
        ("a", [("a", "primary", 100.0)], True),  # the others do not answer
        ("a", [("a", "other", 100.0), ("b", "secondary", 100.0)], False),
        ("a", [("b", "secondary", 100.0)], False),  # this member does not answer
        ("b", [("b", "secondary", 100.0), ("c", "secondary", 100.0)], True),  # an election: nobody is primary
    ],
)
def test_who_dumps(own: str, rows: list[tuple[str, str, float]], dumps: bool) -> None:
    decision = member.decide(own, members(*rows), max_lag=30)
    assert decision.dump is dumps, decision.reason


@given(
    st.lists(
        st.tuples(st.sampled_from("abcde"), st.sampled_from(["primary", "secondary", "other"]), st.floats(0, 100)),
        unique_by=lambda row: row[0],
        max_size=5,
    )
)
def test_never_the_primary_beside_a_healthy_secondary(rows: list[tuple[str, str, float]]) -> None:
    known = members(*rows)
    chosen = [one for one in known if member.decide(one.address, known, 30).dump]
    newest = max((one.written for one in known), default=0.0)
    healthy = [one for one in known if one.role == "secondary" and newest - one.written <= 30]
    if healthy:
        assert chosen == healthy
    else:
        assert all(one.role == "primary" for one in chosen)
