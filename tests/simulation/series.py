"""Series of arrivals: recorded, generated like recorded ones, or synthetic scenarios."""

import gzip
import json
import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phoenix.autoscaler.meter import STEP

HEADING = re.compile(r"#\s*step:\s*(\d+)\s*s\b")
DAY = 86400
MEAN = 50.0  # requests a second, to which a recorded series far from the lab's size is scaled
LAB = (20.0, 200.0)  # means that are near enough


@dataclass(frozen=True)
class Series:
    """Requests of each `step` seconds."""

    name: str
    arrivals: NDArray[np.int64]
    step: float
    factor: float = 1.0  # by which the recorded counts were multiplied

    @property
    def days(self) -> float:
        return len(self.arrivals) * self.step / DAY


# --- recorded


def folder(path: Path, days: tuple[float, float] | None, factors: dict[str, float], seed: int) -> list[Series]:
    """Read every series of a folder: files that end in .gz or .txt.

    Raises:
        ValueError: it has none, or one of them can't be read.
    """
    files = sorted(file for file in path.iterdir() if file.suffix in (".gz", ".txt"))
    if not files:
        raise ValueError(
            f"{path} holds no series: files NAME.gz or NAME.txt are expected, as tests/simulation/README.md says"
        )
    return [recorded(file, days, factors.get(file.name.partition(".")[0]), seed) for file in files]


def recorded(path: Path, days: tuple[float, float] | None = None, factor: float | None = None, seed: int = 1) -> Series:
    """Read one series: comment lines, one of them `# step: N s`, then one count a line.

    Counts of single seconds stay as they are, with their clumping, times a whole factor. Longer steps give a rate,
    which is interpolated; the arrivals are then Poisson.

    Raises:
        ValueError: it has no step or no counts.
    """
    step, counts = _parse(path)
    if days:
        counts = counts[round(days[0] * DAY / step) : round(days[1] * DAY / step)]
    if len(counts) < 2:
        raise ValueError(f"{path} has {len(counts)} counts there: one on each line is expected")
    mean = float(counts.mean())
    if factor is None:
        factor = 1.0 if LAB[0] <= mean <= LAB[1] else MEAN / max(mean, 1e-9)
        factor = max(1.0, round(factor)) if step == 1 else float(f"{factor:.2g}")
    name = path.name.partition(".")[0]
    if step == 1:
        return Series(name, np.rint(counts * factor).astype(np.int64), 1.0, factor)
    seconds = np.arange(round((len(counts) - 1) * step)) + 0.5
    rate = np.interp(seconds, np.arange(len(counts)) * step, counts) * factor
    return Series(name, np.random.default_rng(seed).poisson(rate), 1.0, factor)


def _parse(path: Path) -> tuple[float, NDArray[np.float64]]:
    step, counts = None, []
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("#"):
            found = HEADING.match(line)
            step = float(found[1]) if found else step
        elif line.strip():
            try:
                counts.append(float(line))
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {line.strip()[:40]!r} instead of a count") from error
    if not step:
        raise ValueError(f"{path} does not say its step: a line like `# step: 60 s` is expected")
    return step, np.array(counts)


# --- the steepest stretch


def _rises(rate: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """The greatest rise within each window of so many values."""
    windows = np.lib.stride_tricks.sliding_window_view(rate, min(width, len(rate)))
    rises: NDArray[np.float64] = (windows - np.minimum.accumulate(windows, axis=1)).max(axis=1)
    return rises


def steepest(series: Series, minutes: int = 10) -> Series:
    """The minutes with the greatest rise, of the hour with the greatest rise; of a series with steps of one second.

    Raises:
        ValueError: the series is shorter.
    """
    if series.step != 1 or len(series.arrivals) < minutes * 60:
        raise ValueError(
            f"{series.name} has {len(series.arrivals)} counts of {series.step:g} s: {minutes * 60} of one second needed"
        )
    rate = series.arrivals[: len(series.arrivals) // 60 * 60].reshape(-1, 60).mean(1)
    hour = int(_rises(rate, 60).argmax())
    first = (hour + int(_rises(rate[hour : hour + 60], minutes).argmax())) * 60
    return replace(series, arrivals=series.arrivals[first : first + minutes * 60])


def fitting(series: Series, peak: float, seed: int) -> Series:
    """The series scaled so that its greatest mean of 10 s is `peak`; a part of a request is one at random."""
    highest = float(np.convolve(series.arrivals, np.ones(10) / 10, "valid").max())
    factor = float(f"{peak / max(highest, 1e-9):.3g}")
    counts = np.floor(series.arrivals * factor + np.random.default_rng(seed).random(len(series.arrivals)))
    return replace(series, arrivals=counts.astype(np.int64), factor=round(series.factor * factor, 6))


# --- generated: the statistics of a recorded series, without its data

KNOT = 300  # seconds between two values of the generated rate
SPIKE = 4.0  # robust standard deviations beyond which a knot belongs to a burst


@dataclass(frozen=True)
class Fitted:
    """What a series is generated from."""

    rate: float  # requests a second, median
    night: tuple[float, ...]  # of each hour, relative to the median
    persistence: float  # autocorrelation of the logarithm's residual from knot to knot
    spread: float  # its standard deviation
    clump: int  # requests that arrive together: the dispersion
    bursts: float  # a day
    height: float  # of a burst, times the rate
    length: float  # of a burst, in seconds
    edge: float  # seconds in which it begins


def fit(series: Series) -> Fitted:
    """Measure the statistics of a series with steps of one second.

    A burst is a run of knots far above the hour; its edge is the shortest time in which half of its height is reached.
    """
    rate = series.arrivals[: len(series.arrivals) // KNOT * KNOT].reshape(-1, KNOT).mean(1)
    median = float(np.median(rate))
    hours = (np.arange(len(rate)) * KNOT // 3600) % 24
    night = np.array([np.median(rate[hours == hour]) if (hours == hour).any() else median for hour in range(24)])
    residual = np.log((rate + 0.1) / (night[hours] + 0.1))
    scale = float(1.4826 * np.median(np.abs(residual - np.median(residual))))
    burst = residual > SPIKE * max(scale, 0.05)
    starts = np.flatnonzero(burst & ~np.concatenate([[False], burst[:-1]]))
    both = ~burst[1:] & ~burst[:-1]
    heights = np.exp(residual[burst])
    return Fitted(
        rate=round(median, 2),
        night=tuple(round(float(value / max(median, 1e-9)), 3) for value in night),
        persistence=round(float(np.clip(np.corrcoef(residual[1:][both], residual[:-1][both])[0, 1], 0, 0.99)), 3),
        spread=round(scale, 3),
        clump=max(1, round(_dispersion(series.arrivals))),
        bursts=round(len(starts) / series.days, 2),
        height=round(float(heights.mean()) if len(starts) else 1.0, 2),
        length=round(float(burst.sum() / max(1, len(starts)) * KNOT), 0),
        edge=round(_edge(series.arrivals, starts), 0),
    )


def _dispersion(arrivals: NDArray[np.int64]) -> float:
    """Median over ten minutes of the ratio of squared second differences to their Poisson variance, in 5 s."""
    blocks = arrivals[: len(arrivals) // 5 * 5].reshape(-1, 5).sum(1).astype(float)
    squares = (blocks[2:] - 2 * blocks[1:-1] + blocks[:-2]) ** 2
    scale = blocks[2:] + 4 * blocks[1:-1] + blocks[:-2]
    whole = len(squares) // 120 * 120
    sums = squares[:whole].reshape(-1, 120).sum(1), scale[:whole].reshape(-1, 120).sum(1)
    return float(np.median(sums[0][sums[1] > 0] / sums[1][sums[1] > 0]))


def _edge(arrivals: NDArray[np.int64], starts: NDArray[np.intp]) -> float:
    """Median time between a burst's 25 % and 75 %, doubled to its whole."""
    took = []
    for start in starts:
        part = arrivals[max(0, (start - 1) * KNOT) : (start + 1) * KNOT]
        if len(part) < 2 * KNOT:
            continue
        smooth = np.convolve(part, np.ones(10) / 10, "valid")
        low, high = np.median(smooth[: KNOT // 2]), smooth.max()
        rise = [int(np.argmax(smooth > low + share * (high - low))) for share in (0.25, 0.75)]
        took.append(2 * max(1, rise[1] - rise[0]))
    return float(np.median(took)) if took else float(KNOT)


def generate(fitted: Fitted, seconds: int, seed: int, name: str = "generated") -> Series:
    """Make a series with the statistics of a recorded one."""
    source = np.random.default_rng(seed)
    knots = seconds // KNOT + 2
    noise = np.empty(knots)
    noise[0] = source.normal(0, fitted.spread)
    innovation = fitted.spread * math.sqrt(1 - fitted.persistence**2)
    for knot in range(1, knots):
        noise[knot] = fitted.persistence * noise[knot - 1] + source.normal(0, innovation)
    at = np.arange(seconds) + 0.5
    hours = np.interp(at / 3600 % 24, np.arange(25), [*fitted.night, fitted.night[0]])
    rate = fitted.rate * hours * np.exp(np.interp(at, np.arange(knots) * KNOT, noise))
    for start in np.flatnonzero(source.random(seconds) < fitted.bursts / DAY):
        shape = np.minimum(1.0, np.arange(seconds - start) / max(1.0, fitted.edge))
        gone = np.maximum(0.0, np.arange(seconds - start) - fitted.edge)
        rate[start:] *= 1 + (fitted.height - 1) * 1.5 * shape * np.exp(-gone / max(1.0, fitted.length))
    return Series(name, source.poisson(rate / fitted.clump) * fitted.clump, 1.0)


FITTED = Path(__file__).with_name("fitted.json")


def fitted(path: Path = FITTED) -> dict[str, Fitted]:
    """Read the committed statistics of the recorded series."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return {name: Fitted(**{**one, "night": tuple(one["night"])}) for name, one in content.items()}


# --- synthetic


def poisson(mean: float, source: random.Random) -> int:
    """A Poisson variate; for large means from the normal distribution, which is then as good."""
    if mean > 50:
        return max(0, round(source.gauss(mean, math.sqrt(mean))))
    limit, product, number = math.exp(-mean), source.random(), 0
    while product > limit:
        product *= source.random()
        number += 1
    return number


def noisy(rate: Callable[[float], float], seconds: float, seed: int) -> list[int]:
    """Return Poisson arrivals at rate(t), one number for each STEP."""
    source = random.Random(seed)
    return [poisson(rate(step * STEP) * STEP, source) for step in range(round(seconds / STEP))]


def scenarios(scale: float = 1.0) -> dict[str, tuple[Callable[[float], float], float]]:
    """Return name -> (requests a second at t, seconds); scale 1 is the lab's size."""
    return {
        "step": (lambda t: scale * (5 if t < 300 or t > 1200 else 60), 2400),
        "steady": (lambda t: scale * 19, 3600),
        "ramp": (lambda t: scale * (5 + 95 * min(1.0, max(0.0, (t - 300) / 600))), 1800),
        "day": (lambda t: scale * (40 + 35 * math.sin(2 * math.pi * t / 86400 - math.pi / 2)), 86400),
        "spikes": (lambda t: scale * (90 if t % 1200 < 45 else 12), 7200),
    }


def synthetic(scale: float, seed: int) -> list[Series]:
    """The scenarios as series."""
    made: dict[str, Sequence[int]] = {name: noisy(rate, s, seed) for name, (rate, s) in scenarios(scale).items()}
    return [Series(name, np.array(arrivals), STEP) for name, arrivals in made.items()]
