"""Series of arrivals: synthetic, or recorded."""

import csv
import math
import random
from collections.abc import Callable
from pathlib import Path

from phoenix.autoscaler.meter import STEP


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


def recorded(path: Path) -> list[int]:
    """Read the requests of each second from the last column of a CSV file and spread them evenly within the second.

    Raises:
        ValueError: the file holds no numbers.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row[-1] for row in csv.reader(file) if row]
    if rows and not rows[0].strip().isdigit():
        del rows[0]  # a heading
    parts = round(1 / STEP)
    shares = [(n * (part + 1)) // parts - n * part // parts for n in map(int, rows) for part in range(parts)]
    if not shares:
        raise ValueError(f"{path} holds no counts: one line for each second is expected")
    return shares


def scenarios(scale: float = 1.0) -> dict[str, tuple[Callable[[float], float], float]]:
    """Return name -> (requests a second at t, seconds); scale 1 is the lab's size."""
    return {
        "step": (lambda t: scale * (5 if t < 300 or t > 1200 else 60), 2400),
        "steady": (lambda t: scale * 19, 3600),
        "ramp": (lambda t: scale * (5 + 95 * min(1.0, max(0.0, (t - 300) / 600))), 1800),
        "day": (lambda t: scale * (40 + 35 * math.sin(2 * math.pi * t / 86400 - math.pi / 2)), 86400),
        "spikes": (lambda t: scale * (90 if t % 1200 < 45 else 12), 7200),
    }
