"""The estimates of a load: dispersion, steps, trends, and the quantile of clumped traffic, against known truth."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phoenix.autoscaler import load

POISSON = load.Noise()


def counts(arrivals: Sequence[int], now: float | None = None) -> load.Counts:
    """What the meter says after these arrivals, one number for each second."""
    return load.Counts(lambda window: int(sum(arrivals[-window:])), float(len(arrivals)), now or float(len(arrivals)))


def dispersed(arrivals: Sequence[int]) -> float:
    noise, totals = POISSON, np.concatenate([[0], np.cumsum(arrivals)])
    for now in range(len(arrivals) + 1):
        seen = load.Counts(lambda w, now=now: int(totals[now] - totals[max(0, now - w)]), float(now), float(now))  # type: ignore[misc]
        noise = load.disperse(noise, seen)
    return noise.dispersion


@pytest.mark.parametrize("clump", [1, 4, 60])
@pytest.mark.parametrize("rate", [5, 60])
def test_the_dispersion_is_that_of_the_arrivals(clump: int, rate: int) -> None:
    arrivals = np.random.default_rng(7).poisson(rate / clump, 2 * 3600) * clump
    assert dispersed(arrivals.tolist()) == pytest.approx(clump, rel=0.3)


def test_neither_a_ramp_nor_a_step_is_dispersion() -> None:
    rate = np.concatenate([np.full(900, 20.0), np.linspace(20, 400, 300), np.full(600, 400.0), np.full(600, 20.0)])
    assert dispersed(np.random.default_rng(3).poisson(rate).tolist()) < 1.0 / (
        1 - load.DISPERSION_DOUBT * load.DISPERSION_ERROR
    )


def test_the_dispersion_is_bounded() -> None:
    arrivals = np.where(np.arange(4 * 3600) % 60 < 2, 100_000, 0)
    assert dispersed(arrivals.tolist()) == load.DISPERSION_MOST


def test_a_step_has_an_edge_and_no_trend() -> None:
    arrivals = [5] * 120 + [60] * 20
    edge = float("-inf")
    for now in range(100, len(arrivals) + 1):
        edge = load.edge(edge, counts(arrivals[:now]), 6, POISSON, 5.0)
    assert 120 <= edge <= 124
    assert load.trend(load.Trend(), counts(arrivals), edge, 30, POISSON, 5.0).slope == 0
    assert load.level(counts(arrivals), edge, 30, 600, POISSON) == 60


@pytest.mark.parametrize("slope", [-1.0, 0.5, 2.0])
def test_a_ramp_has_its_slope_and_no_edge(slope: float) -> None:
    arrivals = [200 + round(slope * second) for second in range(120)]
    assert load.edge(float("-inf"), counts(arrivals), 6, POISSON, 5.0) == float("-inf")
    found = load.trend(load.Trend(), counts(arrivals), float("-inf"), 30, POISSON, 5.0)
    assert found.slope == pytest.approx(slope, rel=0.1)
    late = 0 if slope > 0 else 5  # half a third: a falling level is not extrapolated
    assert found.level == pytest.approx(200 + slope * (120 - late), abs=3)


def test_a_trend_once_found_needs_less_to_go_on() -> None:
    arrivals = [50] * 20 + [50 + second // 2 for second in range(30)]
    weak = counts(arrivals)
    assert load.trend(load.Trend(), weak, 0.0, 30, POISSON, 5.0).slope == 0
    assert load.trend(load.Trend(0.5, 50.0), weak, 0.0, 30, POISSON, 5.0).slope > 0
    assert load.trend(load.Trend(-0.5, 50.0), weak, 0.0, 30, POISSON, 5.0).slope == 0


def test_the_level_of_clumped_traffic_takes_a_longer_window() -> None:
    arrivals = [80] * 300 + [20] * 300
    assert load.level(counts(arrivals), 0.0, 30, 600, POISSON) == 20
    assert load.level(counts(arrivals), 0.0, 30, 600, load.Noise(80.0)) == 50
    assert load.level(counts(arrivals), 500.0, 30, 600, load.Noise(80.0)) == 20  # but not beyond a step


@pytest.mark.parametrize("dispersion", [3.0, 20.0, 80.0])
@pytest.mark.parametrize("quantile", [0.9, 0.95, 0.99])
def test_the_headroom_is_the_negative_binomial_quantile(dispersion: float, quantile: float) -> None:
    rate, seconds = 50.0, load.BURST_SECONDS
    noise = load.Noise(dispersion)
    source = np.random.default_rng(1)
    mean = rate * seconds
    clumped = source.negative_binomial(mean / (noise.certain - 1), 1 / noise.certain, 200_000)
    exact = (np.quantile(clumped, quantile) - np.quantile(source.poisson(mean, 200_000), quantile)) / seconds
    assert load.headroom(rate, noise, quantile) == pytest.approx(exact, rel=0.05)


@settings(max_examples=100)
@given(st.floats(0, 1e5), st.floats(0, 1e3), st.floats(0.5, 0.999))
def test_the_headroom_is_never_negative_and_grows_with_the_load(
    rate: float, dispersion: float, quantile: float
) -> None:
    noise = load.Noise(min(dispersion, load.DISPERSION_MOST))
    some, more = (load.headroom(value, noise, quantile) for value in (rate, rate * 1.1 + 1))
    assert 0 <= some <= more + 1e-6 or rate < 1


def test_poisson_traffic_gets_no_headroom() -> None:
    assert load.headroom(50.0, load.Noise(1.2), 0.95) == 0
