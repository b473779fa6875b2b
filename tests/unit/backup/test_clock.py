"""Running time in place of the calendar."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from phoenix.backup import clock


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.floats(1, 200000),  # true seconds that pass
            st.sampled_from(["run", "reboot", "off", "lost"]),
            st.floats(-4e9, 4e9),  # where somebody sets the clock: it must not matter
        ),
        max_size=30,
    )
)
def test_running_time_is_never_ahead_of_the_true_time(steps: list[tuple[float, str, float]]) -> None:
    """So nothing counts as older than it is, and nothing is deleted early; nor does it run backwards."""
    true, since_boot, boot = 0.0, 0.0, 0
    reading = clock.advance(None, "0", 0.0)
    marks = [(true, reading.elapsed)]
    for seconds, event, _wall in steps:
        true += seconds
        since_boot += seconds
        if event in ("reboot", "off"):
            since_boot, boot = 0.0, boot + 1
            true += 5000.0 if event == "off" else 30.0
        # A lost reading is made up for by the newest mark in the store, or by nothing.
        floor = marks[-1][1]
        last = None if event == "lost" else reading
        reading = clock.advance(last, str(boot), since_boot, floor)
        for then, mark in marks:
            assert reading.elapsed - mark <= true - then + 1e-6
        assert reading.elapsed >= marks[-1][1]
        marks.append((true, reading.elapsed))
