"""Requests that a fleet really had, with its capacity, beside the simulation of the same requests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from phoenix.autoscaler.meter import STEP
from phoenix.autoscaler.policy import Settings
from tests.simulation import plot
from tests.simulation.replay import Fleet, binned, replay
from tests.simulation.scalers import Phoenix

# A running autoscaler has known the load for long; so much of a quiet past is enough for all that it waits for.
QUIET_S = 120


@dataclass(frozen=True)
class Simulated:
    """capacities: each second; actions: when each was decided, and the instances from then on."""

    capacities: list[int]
    actions: list[tuple[float, int]]


@dataclass(frozen=True)
class Run:
    """sent: when each request was due, in seconds from the start; capacities: instances in rotation, each second."""

    title: str
    sent: Sequence[float]
    capacities: Sequence[int]

    @property
    def rates(self) -> list[int]:
        """Requests of each second."""
        each = round(1 / STEP)
        steps = binned(self.sent, len(self.capacities))
        return [sum(steps[first : first + each]) for first in range(0, len(steps), each)]

    def simulated(self, settings: Settings, startup: float) -> Simulated:
        """Return what the policy does for these requests on a fleet with this start-up."""
        arrivals = [0] * round(QUIET_S / STEP) + binned(self.sent, len(self.capacities))
        fleet = Fleet(settings.target, startup=startup, minimum=settings.minimum, maximum=settings.maximum)
        scaler = Phoenix(settings)
        outcome = replay(scaler, arrivals, fleet, self.capacities[0])
        actions = [(at - QUIET_S, decision.count) for at, decision in scaler.decisions if at >= QUIET_S]
        return Simulated(outcome.capacities[QUIET_S:], actions)

    def save(self, path: Path, simulated: Simulated, target: float) -> None:
        """Write the record of it, and next to that the picture."""
        record = {
            "title": self.title,
            "target": target,
            "rate": list(enumerate(self.rates)),
            "rotation": list(enumerate(self.capacities)),
            "simulated": list(enumerate(simulated.capacities)),
        }
        path.write_text(json.dumps(record) + "\n")
        plot.save(path.with_suffix(".svg"), [plot.recorded(path)])
