"""Replay of a series of arrivals through a scaler, with a model of the fleet."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from phoenix.autoscaler.meter import STEP
from tests.simulation.scalers import Scaler


@dataclass(frozen=True)
class Fleet:
    """Instances that each serve `rate` requests a second, and take `startup` seconds from decision to rotation."""

    rate: float = 10.0
    startup: float = 5.0
    minimum: int = 1
    maximum: int = 1000


@dataclass
class Outcome:
    """The result. Shares are of the whole time; the queue holds requests that wait because instances are busy."""

    scaler: str
    under: float  # share of time in which more arrives (mean of 10 s) than the target of the instances in rotation
    worst_queue: float
    instance_hours: float
    actions: int
    rates: list[float] = field(default_factory=list, repr=False)  # each second
    capacities: list[int] = field(default_factory=list, repr=False)


def replay(scaler: Scaler, arrivals: Sequence[int], fleet: Fleet, start: int) -> Outcome:
    """Replay `arrivals`, one number for each STEP, starting with the capacity `start`."""
    ready = capacity = start
    ready_at = 0.0
    queue = worst = used = 0.0
    under = actions = 0
    per_decision = max(1, round(scaler.every / STEP))
    behind = round(10 / STEP)
    recent = 0
    outcome = Outcome(scaler.name, 0.0, 0.0, 0.0, 0)
    for step, number in enumerate(arrivals):
        now = (step + 1) * STEP
        scaler.observe(now, number)
        if capacity != ready and now >= ready_at:
            ready = capacity
        queue = max(0.0, queue + number - ready * fleet.rate * STEP)
        worst = max(worst, queue)
        recent += number - (arrivals[step - behind] if step >= behind else 0)
        under += recent > ready * fleet.rate * min(10.0, now)
        used += ready * STEP
        if step % per_decision == per_decision - 1:
            wanted = min(max(scaler.desired(now, ready, capacity), fleet.minimum), fleet.maximum)
            if wanted != capacity:
                actions += 1
                # Scaling in is immediate: an instance leaves the rotation before it stops.
                ready_at = now + (fleet.startup if wanted > capacity else 0.0)
                capacity = wanted
        if step % round(1 / STEP) == 0:
            outcome.rates.append(sum(arrivals[max(0, step - 3) : step + 1]) / (min(step + 1, 4) * STEP))
            outcome.capacities.append(ready)
    steps = max(1, len(arrivals))
    outcome.under, outcome.worst_queue = under / steps, worst
    outcome.instance_hours, outcome.actions = used / 3600, actions
    return outcome
