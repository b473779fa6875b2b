"""Which dumps are deleted, and when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from phoenix.backup import retention
from tests.unit.backup.builders import DAY


def kept(number: int, day: float, state: str = "good", safety: bool = False) -> retention.Kept:
    return retention.Kept(f"n{number}", number, day * DAY, state, safety)


def left(verdicts: list[retention.Verdict]) -> list[str]:
    return [one.name for one in verdicts if one.keep]


def test_seven_days_are_kept() -> None:
    nights = [kept(day, day) for day in range(1, 11)]
    assert left(retention.decide(nights, 10 * DAY, 7)) == [f"n{day}" for day in range(3, 11)]


def test_nothing_is_deleted_while_the_newest_is_not_good() -> None:
    for state in ("failed", "bad", "unproven", "shrunken", "empty", "full"):
        nights = [*[kept(day, day) for day in range(1, 11)], kept(11, 11, state)]
        assert len(left(retention.decide(nights, 30 * DAY, 7))) == 11


def test_the_last_good_one_stays_however_old() -> None:
    assert left(retention.decide([kept(1, 1), kept(2, 2, "bad"), kept(3, 3)], 400 * DAY, 7)) == ["n3"]


def test_safety_dumps_expire_and_do_not_count() -> None:
    nights = [kept(1, 1), kept(2, 2, safety=True), kept(3, 20, "shrunken", safety=True)]
    assert left(retention.decide(nights, 20 * DAY, 7)) == ["n1", "n3"]


STATES = st.sampled_from(["good", "failed", "bad", "unproven", "shrunken", "empty", "full"])


@given(
    st.lists(st.tuples(st.floats(0, 40), STATES, st.booleans()), max_size=20),
    st.floats(0, 60),
    st.integers(1, 30),
)
def test_what_retention_never_does(rows: list[tuple[float, str, bool]], now_day: float, days: int) -> None:
    nights = [kept(number, day, state, safety) for number, (day, state, safety) in enumerate(rows)]
    gone = [
        one
        for one, verdict in zip(nights, retention.decide(nights, now_day * DAY, days), strict=True)
        if not verdict.keep
    ]
    counted = [one for one in nights if not one.safety]
    good = [one for one in counted if one.state == "good"]
    for one in gone:
        assert now_day * DAY - one.elapsed > days * DAY, "deleted early"
        assert counted[-1].state == "good", "deleted although the newest is not good"
        assert one is not good[-1], "the last good one deleted"


def test_of_what_is_sent_whole_at_each_change_the_last_of_a_day_stays() -> None:
    """And all of the last 24 hours."""
    sent = [kept(number, day) for number, day in enumerate((1.1, 1.2, 1.9, 2.0, 3.5, 3.6, 4.5), 1)]
    thinned = retention.thin(sent, 4.45 * DAY)
    assert [one.name for one in thinned] == ["n1", "n2"] and not left(thinned)
    assert [one.name for one in retention.thin(sent, 4.7 * DAY)] == ["n1", "n2", "n5"]
    rest = [one for one in sent if one.name not in {"n1", "n2", "n5"}]
    assert retention.thin(rest, 20 * DAY) == []
