"""Replay of a series of arrivals through a scaler, with a model of the fleet."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil

import numpy as np
from numpy.typing import NDArray

from phoenix.autoscaler.meter import STEP
from tests.simulation.scalers import Scaler, Seen

JUDGED = 10  # seconds over which arrivals are averaged before they are compared with the capacity


@dataclass(frozen=True)
class Fleet:
    """Instances that each serve `rate` requests a second.

    startup: seconds from a decision to rotation; drain: seconds that an instance still costs after it has left it.
    throughput: requests a second that an instance can handle; 0: its rate.
    """

    rate: float = 10.0
    throughput: float = 0.0
    startup: float = 5.0
    drain: float = 0.0
    minimum: int = 1
    maximum: int = 1000


@dataclass
class Outcome:
    """The result. Shares are of the whole time; the queue holds requests that wait because instances are busy."""

    scaler: str
    under: float  # share of time in which more arrives (mean of 10 s) than the target of the instances in rotation
    worst_queue: float
    instance_hours: float
    oracle_hours: float  # of exactly the instances that each mean of 10 s requires
    actions: int
    rates: list[float] = field(default_factory=list, repr=False)  # each second
    capacities: list[int] = field(default_factory=list, repr=False)

    @property
    def cost(self) -> float:
        """Instance-hours against the oracle's."""
        return self.instance_hours / self.oracle_hours


def replay(scaler: Scaler, arrivals: Sequence[int], fleet: Fleet, start: int, step: float = STEP) -> Outcome:
    """Replay `arrivals`, one number for each `step`, starting with the capacity `start`."""
    numbers = np.asarray(arrivals, dtype=np.int64)
    totals = np.concatenate([[0], np.cumsum(numbers)])
    seen = Seen(totals.tolist(), step)
    ready = capacity = start
    ready_at = 0.0
    per_decision = max(1, round(scaler.every / step))
    changes: list[tuple[int, int]] = [(0, start)]  # (step from which they are in rotation, instances)
    actions, stopped = 0, 0
    for index in range(per_decision, len(numbers) + 1, per_decision):
        seen.index = index
        if capacity != ready and seen.now >= ready_at:
            ready = capacity
        wanted = min(max(scaler.desired(seen, ready, capacity), fleet.minimum), fleet.maximum)
        if wanted != capacity:
            actions += 1
            # Scaling in is immediate: an instance leaves the rotation before it stops.
            wait = fleet.startup if wanted > capacity else 0.0
            stopped += max(0, capacity - wanted)
            ready_at, capacity = seen.now + wait, wanted
            # A change during a start-up replaces it.
            changes = [change for change in changes if change[0] <= index]
            changes.append((index + ceil(wait / step), wanted))
            ready = ready if wait else capacity
    outcome = measure(scaler.name, numbers, totals, changes, fleet, step)
    outcome.actions = actions
    outcome.instance_hours += stopped * fleet.drain / 3600
    return outcome


def measure(
    name: str,
    numbers: NDArray[np.int64],
    totals: NDArray[np.int64],
    changes: Sequence[tuple[int, int]],
    fleet: Fleet,
    step: float,
) -> Outcome:
    """Compare arrivals with the capacities over the whole time at once."""
    count = len(numbers)
    capacities = np.empty(count, dtype=np.int64)
    for (first, number), (last, _) in zip(changes, [*changes[1:], (count, 0)], strict=True):
        capacities[first:last] = number
    ends = np.arange(1, count + 1)
    within = np.minimum(round(JUDGED / step), ends)
    mean = (totals[ends] - totals[ends - within]) / (within * step)
    oracle = np.maximum(fleet.minimum, np.ceil(mean / fleet.rate - 1e-9))
    balance = np.cumsum(numbers - capacities * (fleet.throughput or fleet.rate) * step)
    queue = balance - np.minimum(0, np.minimum.accumulate(balance)) if count else np.zeros(1)
    each = max(1, round(1 / step))
    second = np.arange(0, count, each)
    recent = np.minimum(each, second + 1)
    return Outcome(
        scaler=name,
        under=float((mean > capacities * fleet.rate + 1e-9).mean()) if count else 0.0,
        worst_queue=float(queue.max()),
        instance_hours=float(capacities.sum()) * step / 3600,
        oracle_hours=max(float(oracle.sum()) * step / 3600, 1e-9),
        actions=0,
        rates=((totals[second + 1] - totals[second + 1 - recent]) / (recent * step)).tolist(),
        capacities=capacities[second].tolist(),
    )


def above(rates: Sequence[float], capacities: Sequence[int], target: float) -> float:
    """The share of seconds in which more arrives (mean of 10 s) than the target of the instances."""
    totals = np.concatenate([[0.0], np.cumsum(rates)])
    ends = np.arange(1, len(rates) + 1)
    within = np.minimum(JUDGED, ends)
    mean = (totals[ends] - totals[ends - within]) / within
    return float((mean > np.asarray(capacities) * target + 1e-9).mean())


def binned(times: Sequence[float], seconds: float) -> list[int]:
    """Arrivals of each STEP, of requests at these times; of a fleet, for the simulation of the same ones."""
    counts, _ = np.histogram(times, bins=round(seconds / STEP), range=(0, seconds))
    return [int(count) for count in counts]
