"""The load as it is estimated from counts: its level, its trend, and how it scatters. Pure functions.

Every estimate comes from differences of the meter's counts, so that it costs microseconds and needs no library. Rates
are in requests a second, times in seconds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, sqrt
from statistics import NormalDist

# --- dispersion: variance of a count over its mean. 1 for a Poisson process, where requests come independently.

# Long enough for a client's burst to fall into one block, short enough for 360 of them in the memory.
BLOCK_SECONDS = 5
# Exponential smoothing, so that the estimate is one number. Clumping is a property of the clients: it changes slowly.
DISPERSION_MEMORY_SECONDS = 1800.0
# The estimate's own relative error: the squared second differences of normal noise have a variance of 2, and overlap,
# which multiplies the variance of their mean by 1.94 = 1 + 2 (4/6)^2 + 2 (1/6)^2.
DISPERSION_ERROR = sqrt(1.94 * BLOCK_SECONDS / DISPERSION_MEMORY_SECONDS)
# Standard errors by which it has to exceed 1 before instances are added for it: 1 of 740 estimates by chance.
DISPERSION_DOUBT = 3.0
# A single squared difference counts at most as one of 3 standard deviations (Huber's winsorising): a step is no clump.
DISPERSION_CLIP = 9.0
# A bound: beyond it single clients make the estimate, and it would multiply small rates.
DISPERSION_MOST = 200.0

# --- trend

# Windows of a trend as multiples of the stable window. Each next one resolves a slope about half as steep.
TREND_WINDOWS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 9.0, 12.0)
# The longest for clumped traffic: clients stay for minutes, so that counts of minutes scatter more than those of 5 s.
TREND_CLUMPED = 4.0
# A trend once found needs this many standard deviations to go on: a switch with two thresholds does not chatter.
TREND_KEPT = 3.0

# --- level

SHORTEST_LEVEL = 5  # seconds after a step
# Relative error of the level of clumped traffic: the window is as long as this takes, up to the long one. A capacity of
# 20 instances is then off by one.
LEVEL_ERROR = 0.05
# The excess over the capacity counts in a mean of 10 s: what an instance's queue absorbs within a request's time limit.
BURST_SECONDS = 10


@dataclass(frozen=True)
class Noise:
    """The dispersion, and when it was last updated."""

    dispersion: float = 1.0
    at: float = -inf

    @property
    def deviations(self) -> float:
        """For tests of significance: never less than Poisson."""
        return max(1.0, self.dispersion)

    @property
    def certain(self) -> float:
        """What exceeds the doubt; 1 for traffic that may well be Poisson."""
        return max(1.0, self.dispersion * (1 - DISPERSION_DOUBT * DISPERSION_ERROR))


@dataclass(frozen=True)
class Trend:
    """The slope (requests/s in a second) that is significant, and the level at its end; none: slope 0."""

    slope: float = 0.0
    level: float = 0.0


@dataclass(frozen=True)
class Counts:
    """`last(w)`: requests within the last w seconds, of which `known` are known."""

    last: Callable[[int], int]
    known: float
    now: float

    def rate(self, window: int) -> float:
        """Requests a second within the window, or within as much of it as is known."""
        window = max(1, min(window, int(self.known)))
        return self.last(window) / window


def disperse(before: Noise, counts: Counts) -> Noise:
    """Update the dispersion from the second difference of three blocks, which a linear trend leaves at zero.

    Gasser, Sroka, Jennen-Steinmetz: Residual variance and residual pattern in nonlinear regression (Biometrika 1986).
    """
    if counts.known < 3 * BLOCK_SECONDS or counts.now - before.at < BLOCK_SECONDS:
        return before
    newest, two = counts.last(BLOCK_SECONDS), counts.last(2 * BLOCK_SECONDS)
    middle, oldest = two - newest, counts.last(3 * BLOCK_SECONDS) - two
    scale = newest + 4 * middle + oldest
    if scale <= 0:
        return Noise(before.dispersion, counts.now)
    ratio = min((newest - 2 * middle + oldest) ** 2 / scale, DISPERSION_CLIP * before.dispersion)
    value = before.dispersion + (ratio - before.dispersion) * BLOCK_SECONDS / DISPERSION_MEMORY_SECONDS
    return Noise(min(value, DISPERSION_MOST), counts.now)


def edge(before: float, counts: Counts, longest: int, noise: Noise, significance: float) -> float:
    """Return when the load last jumped: two adjacent short windows that differ by more than noise.

    The test of two Poisson rates (Przyborowski, Wilenski 1940), in its normal approximation.
    """
    most, found = significance**2 * noise.deviations, before
    for window in range(1, longest + 1):
        if 2 * window > counts.known:
            break
        newer = counts.last(window)
        both = counts.last(2 * window)
        difference = 2 * newer - both
        if both > 0 and difference * difference > most * both:
            most, found = difference * difference / both, counts.now - window
    return found


def trend(before: Trend, counts: Counts, since: float, stable: int, noise: Noise, significance: float) -> Trend:
    """Return the slope of the shortest window in which it is significant, none of which reaches back beyond a step.

    The slope is that between the means of the first and the last third (Bartlett's estimator, Biometrics 1949), which
    has 8/9 of the efficiency of least squares. A rising level is extrapolated to the window's end; a falling one is
    not, so that capacity goes later than the load.
    """
    reach = min(counts.known, counts.now - since)
    longest = TREND_CLUMPED if noise.certain > 1 else inf
    for multiple in TREND_WINDOWS:
        window = round(stable * multiple)
        if window > reach or multiple > longest:
            break
        third = window // 3
        newest = counts.last(third)
        oldest = counts.last(window) - counts.last(window - third)
        difference, both = newest - oldest, newest + oldest
        sure = TREND_KEPT if difference * before.slope > 0 else significance
        if both > 0 and difference * difference > sure * sure * noise.deviations * both:
            slope = difference / third / (window - third)
            return Trend(slope, newest / third + max(0.0, slope) * third / 2)
    return Trend()


def level(counts: Counts, since: float, stable: int, longest: int, noise: Noise) -> float:
    """Return the mean rate of a load without a trend: as long a window as its scatter requires, but after a step."""
    within = max(SHORTEST_LEVEL, min(counts.known, counts.now - since))
    rate = counts.rate(int(min(stable, within)))
    if noise.certain > 1 and rate > 0:
        rate = counts.rate(int(min(longest, within, max(stable, noise.certain / (rate * LEVEL_ERROR**2)))))
    return rate


def headroom(rate: float, noise: Noise, quantile: float) -> float:
    """Return the rate that clumping adds to the upper quantile of 10 s, beyond what independent requests would.

    The counts are negative-binomial of the measured dispersion; the quantile is Cornish and Fisher's (1938), exact to
    the skewness.
    """
    if noise.certain <= 1 or rate <= 0:
        return 0.0
    deviate = NormalDist().inv_cdf(quantile)
    mean = rate * BURST_SECONDS

    def above(dispersion: float) -> float:
        deviation = sqrt(dispersion * mean)
        return deviation * (deviate + (2 * dispersion - 1) / deviation * (deviate * deviate - 1) / 6)

    return max(0.0, above(noise.certain) - above(1.0)) / BURST_SECONDS
