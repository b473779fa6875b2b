"""phoenixctl capacity: the hold of an operator, and the sentence that explains the capacity."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from phoenix.autoscaler import capacity, policy, state
from phoenix.autoscaler.floor import Floor
from phoenix.state import hold

NOW = datetime(2026, 11, 25, 20, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("90m", NOW + timedelta(minutes=90)),
        ("2h", NOW + timedelta(hours=2)),
        ("3d", NOW + timedelta(days=3)),
        ("21:30", NOW.replace(hour=21, minute=30)),
        ("08:00", NOW.replace(hour=8) + timedelta(days=1)),
        ("2026-12-01T18:00", datetime(2026, 12, 1, 18, tzinfo=UTC)),
        ("2026-12-01T18:00+01:00", datetime(2026, 12, 1, 17, tzinfo=UTC)),
    ],
)
def test_times(text: str, wanted: datetime) -> None:
    assert hold.moment(text, NOW) == wanted


@pytest.mark.parametrize("text", ["soon", "0m", "2026-11-25T19:00", "40d", "25:00", ""])
def test_times_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="give"):
        hold.moment(text, NOW)


def test_a_hold_freezes_until_it_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = state.FleetLock(tmp_path)
    assert capacity.main(["hold", "--until", "2h", "--reason", "a campaign"], tmp_path) == 0
    assert "held by" in capsys.readouterr().out
    assert lock.reason().startswith("held by ")
    assert lock.reason().endswith(": a campaign")
    assert capacity.main(["release"], tmp_path) == 0
    assert lock.reason() == ""
    hold.begin(hold.Hold(time.time() - 1, "ann", ""), tmp_path)
    assert lock.reason() == ""


def test_a_damaged_hold_holds_nothing_and_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / hold.NAME).write_text("{}")
    lock = state.FleetLock(tmp_path)
    assert [lock.reason(), lock.reason()] == ["", ""]
    assert len(caplog.records) == 1


def test_an_invalid_time_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert capacity.main(["hold", "--until", "soon"], tmp_path) == capacity.USAGE
    assert "--until: 'soon' is no time; give 90m" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_explain_prints_what_the_daemon_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = tmp_path / "status.json"
    assert capacity.main(["explain"], tmp_path, status) == 1
    assert "run this on control" in capsys.readouterr().err
    status.write_text(json.dumps({"explanation": "The capacity is 2.", "written": time.time()}))
    assert capacity.main(["explain"], tmp_path, status) == 0
    assert capsys.readouterr().out == "The capacity is 2.\n"
    status.write_text(json.dumps({"explanation": "The capacity is 2.", "written": time.time() - 60}))
    capacity.main(["explain"], tmp_path, status)
    assert "This was 60 s ago" in capsys.readouterr().out


RULES = policy.Settings(minimum=2, maximum=12)


CROWDED = policy.Settings(minimum=2, maximum=12, open_target=100)


def explained(rate: float, having: int, rules: policy.Settings = RULES, **other: object) -> str:
    seen = policy.Inputs(1000.0, lambda window: round(rate * window), 900.0, (), having, **other)  # type: ignore[arg-type]
    return policy.explain(rules, seen, policy.Memory(needs_since=0.0))


def test_the_sentence_says_why_and_what_would_change_it() -> None:
    assert explained(55, 6) == (
        "The capacity is 6 for 55.0 requests/s: the capacity fits; it grows above 64.3/s for 30 s, at once after a "
        "jump or a trend; it shrinks by one below 47.5/s for 150 s, and sooner by more."
    )
    assert "is to be 12: the load exceeds the capacity" in explained(200, 6)
    assert explained(5, 2).endswith("it can't shrink below the minimum of 2.")
    assert "it can't grow beyond the maximum of 12" in explained(110, 12)
    assert explained(5, 2, frozen="held by ann").endswith("held by ann; nothing changes before that ends.")
    assert explained(25, 6, CROWDED, open=540) == (
        "The capacity is 6 for 25.0 requests/s, and 540 open requests: the capacity fits; it grows above 64.3/s for "
        "30 s, at once after a jump or a trend, and above 600 open requests for 6 s; it shrinks by one below 47.5/s "
        "and 437 open requests for 150 s, and sooner by more."
    )
    assert "at the minimum of a campaign" in explained(5, 8, floor=Floor(8, "a campaign"))


def test_the_capacity_grows_at_the_rate_that_the_sentence_says() -> None:
    for having in (2, 6, 11):
        rate = float(explained(having * 9.6, having).partition("grows above ")[2].partition("/s")[0])
        for factor, action in ((0.99, "hold"), (1.02, "out")):
            seen = policy.Inputs(
                1000.0,
                lambda window, steady=having * 9.0, now=rate * factor: round(  # type: ignore[misc]
                    now * min(window, 30) + steady * max(0, window - 30)
                ),
                900.0,
                (),
                having,
            )
            memory = policy.Memory(edge=970.0, needs_since=0.0)
            assert policy.decide(RULES, seen, memory)[0].action == action, (having, factor)
