"""The simulation: series read and generated, the fleet's model, and the policy on traffic like the recorded one."""

import gzip
import json
from dataclasses import replace
from math import ceil
from pathlib import Path

import numpy as np
import pytest

from phoenix.autoscaler.policy import Settings
from tests.harness.remote.load import due_times
from tests.simulation import __main__ as command
from tests.simulation import plot, series
from tests.simulation.replay import Fleet, above, replay
from tests.simulation.run import Run
from tests.simulation.scalers import Phoenix, Seen

FLEET = Fleet(startup=7.0, minimum=2, maximum=1000)
SETTINGS = Settings(minimum=2, maximum=1000)


def written(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return folder / name


def test_counts_of_seconds_keep_their_clumping(tmp_path: Path) -> None:
    path = written(tmp_path, "web.gz", "# A server\n# step: 1 s; days 1 to 5\n1\n0\n2\n")
    assert series.recorded(path, factor=60).arrivals.tolist() == [60, 0, 120]
    assert series.recorded(path).factor == 50  # to the lab's size


def test_longer_steps_are_interpolated(tmp_path: Path) -> None:
    path = written(tmp_path, "counts.txt", "# step: 300 s\n" + "40\n100\n" * 20)
    made = series.recorded(path)
    assert (len(made.arrivals), made.factor) == (39 * 300, 1)
    assert made.arrivals[145:155].mean() == pytest.approx(70, rel=0.15)
    assert series.recorded(path, days=(0, 1200 / 86400)).days == pytest.approx(900 / 86400)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1\n2\n", "does not say its step"),
        ("# step: 1 s\nx\n2\n", "line 2: 'x' instead of a count"),
        ("# step: 1 s\n", "has 0 counts"),
    ],
)
def test_what_is_no_series_is_refused(tmp_path: Path, text: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, "bad.txt", text)
    assert command.main([str(tmp_path)]) == 1
    assert said in capsys.readouterr().err


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no series"):
        series.folder(tmp_path, None, {}, 1)


@pytest.mark.parametrize("name", series.fitted())
def test_what_is_generated_has_the_statistics_it_was_fitted_to(name: str) -> None:
    wanted = series.fitted()[name]
    found = series.fit(series.generate(wanted, 4 * 86400, 11))
    assert found.rate == pytest.approx(wanted.rate, rel=0.25)
    assert found.clump == pytest.approx(wanted.clump, rel=0.3, abs=1)
    assert found.spread == pytest.approx(wanted.spread, rel=0.5, abs=0.05)
    assert found.bursts <= 2 * wanted.bursts + 4
    assert np.corrcoef(found.night, wanted.night)[0, 1] > 0.3


def test_the_same_seed_gives_the_same_series() -> None:
    one = series.fitted()["tweets-second"]
    first, same, other = (series.generate(one, 3600, seed).arrivals.tolist() for seed in (1, 1, 2))
    assert first == same != other


class Fixed:
    """Wants these capacities, one at each decision."""

    name, every = "fixed", 1.0

    def __init__(self, *wanted: int) -> None:
        self.wanted = list(wanted)

    def desired(self, seen: Seen, ready: int, capacity: int) -> int:
        return self.wanted.pop(0) if self.wanted else capacity


def test_instances_serve_after_the_start_up_and_leave_at_once() -> None:
    fleet = Fleet(startup=3.0, drain=10.0, minimum=1)
    outcome = replay(Fixed(1, 4, 4, 4, 4, 4, 4, 1), [30] * 12, fleet, 1, 1.0)
    assert outcome.capacities == [1, 1, 1, 1, 1, 4, 4, 4, 1, 1, 1, 1]
    assert outcome.actions == 2
    assert outcome.under == 9 / 12
    assert outcome.instance_hours == pytest.approx((9 * 1 + 3 * 4 + 3 * 10) / 3600)
    assert outcome.oracle_hours == pytest.approx(12 * 3 / 3600)
    assert outcome.worst_queue == 5 * 20 - 3 * 10 + 4 * 20


# Share of time above capacity and hours against the oracle: about a third more than measured with other seeds, so that
# a change of the policy that makes it worse fails, and another random series does not.
BOUNDS = {
    "mentions-5min": (0.11, 1.15, 300),
    "nasa-second": (0.09, 2.0, 500),
    "tweets-second": (0.06, 1.30, 450),
    "worldcup98-minute": (0.06, 1.20, 150),
}


@pytest.mark.parametrize("name", series.fitted())
def test_the_policy_on_traffic_like_the_recorded_one(name: str) -> None:
    made = series.generate(series.fitted()[name], 4 * 3600, 21)
    scaler = Phoenix(SETTINGS, every=1.0)
    outcome = replay(scaler, made.arrivals.tolist(), FLEET, 6, 1.0)
    above, cost, actions = BOUNDS[name]
    assert outcome.under < above
    assert outcome.cost < cost
    assert outcome.actions / made.days < actions


def test_start_up_drain_and_throughput_come_from_the_bench(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    rows = {command.STARTUP: 6.2, command.DRAIN: 9.0, command.THROUGHPUT: 400.0}
    path.write_text(json.dumps([{"name": name, "value": value} for name, value in rows.items()]))
    assert command.measured(path, FLEET) == replace(FLEET, startup=6.2, drain=9.0, throughput=400.0)
    path.write_text("[]")
    with pytest.raises(ValueError, match="make bench THEME=autoscaler"):
        command.measured(path, FLEET)


def test_one_command_makes_the_table_and_the_frontier(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = np.random.default_rng(1)
    written(tmp_path, "a.gz", "# step: 1 s\n" + "\n".join(map(str, source.poisson(40, 900))))
    written(tmp_path, "b.txt", "# step: 60 s\n" + "\n".join(map(str, source.poisson(90, 16))))
    assert command.main([str(tmp_path), "--frontier", str(tmp_path / "frontier.svg")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2 + 2 * 4
    assert printed[0].startswith("| series | scaler | above capacity | hours / oracle | actions |")
    assert "<svg" in (tmp_path / "frontier.svg").read_text()


def test_the_steepest_minutes_are_those_of_the_steepest_hour() -> None:
    gentle = np.linspace(10, 40, 3600)  # +5 in each 10 minutes
    steep = np.concatenate([np.full(1200, 20), np.linspace(20, 80, 300), np.full(2100, 80)])
    counts = np.rint(np.concatenate([gentle, steep])).astype(np.int64)
    found = series.steepest(series.Series("x", counts, 1.0))
    assert len(found.arrivals) == 600
    assert (found.arrivals.min(), found.arrivals.max()) == (20, 80)
    with pytest.raises(ValueError, match="600 of one second"):
        series.steepest(series.Series("x", counts[:599], 1.0))


def test_a_stretch_is_scaled_to_its_peak() -> None:
    counts = np.concatenate([np.full(300, 50), np.full(300, 200)])
    scaled = series.fitting(series.Series("x", counts, 1.0, 2.0), 114, 1)
    assert scaled.factor == pytest.approx(2 * 0.57)
    assert scaled.arrivals[:300].mean() == pytest.approx(28.5, rel=0.02)
    assert scaled.arrivals[300:].mean() == pytest.approx(114, rel=0.02)


def test_requests_that_a_fleet_had_are_simulated_as_they_came(tmp_path: Path) -> None:
    sent = due_times([5] * 60 + [60] * 60, 120, seed=1)
    run = Run("a step", sent, [2] * 68 + [6] * 52)
    assert (len(sent), sum(run.rates), run.rates[0], run.rates[-1]) == (3900, 3900, 5, 60)
    simulated = run.simulated(Settings(minimum=2, maximum=12), startup=5.0)
    (decided, count), *rest = simulated.actions
    assert (count, rest) == (6, [])
    assert 61 < decided < 64
    assert simulated.capacities == [2] * ceil(decided + 5.0) + [6] * (120 - ceil(decided + 5.0))
    assert above(run.rates, [6] * 120, 10) == 0
    # 30 s of the first half at 2 would be enough, and the mean of 10 s exceeds 20 from the third second on.
    assert above(run.rates, [2] * 120, 10) == pytest.approx(58 / 120, abs=0.02)
    run.save(tmp_path / "run.json", simulated, 10)
    assert plot.recorded(tmp_path / "run.json").capacities[1].points[-1] == (119, 60)
    assert (tmp_path / "run.svg").exists()


def test_a_faster_instance_has_a_shorter_queue() -> None:
    outcomes = [replay(Phoenix(SETTINGS), [60] * 60, replace(FLEET, throughput=t), 2, 1.0) for t in (0.0, 10.0, 100.0)]
    assert outcomes[0].worst_queue == outcomes[1].worst_queue > outcomes[2].worst_queue == 0
