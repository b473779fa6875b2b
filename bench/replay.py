"""The steepest ten minutes of a series of requests, replayed against the fleet and beside the simulation.

PHOENIX_SERIES    the series, in the format of tests/simulation/README.md; without it, a day that is generated with the
                  statistics of a recorded one. make bench THEME="autoscaler replay" SERIES=…
The simulation has the start-up that the theme autoscaler measured, if bench.json has it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path

import numpy as np

from bench.fleet import FILE, Fleet, Row
from phoenix.autoscaler.policy import Settings
from tests.harness.autoscaling import Watch, actions_of, settings_of, settle
from tests.harness.load import load
from tests.harness.remote.load import due_times
from tests.harness.waiting import median
from tests.simulation import series
from tests.simulation.__main__ import measured
from tests.simulation.replay import Fleet as SimulatedFleet
from tests.simulation.replay import above
from tests.simulation.run import Run, Simulated

GENERATED = "tweets-second"
SEED = 1
LEAD_IN_S = 60  # at the rate of the first minute, before the ten minutes; not judged
RECORD = Path("bench-replay.json")

Actions = Sequence[tuple[float, int]]  # when each was decided, and the instances from then on


def chosen(settings: Settings) -> series.Series:
    """Return the stretch to be replayed: what is due at its peak is the calm share of the maximum."""
    path = os.environ.get("PHOENIX_SERIES")
    whole = (
        series.recorded(Path(path), factor=1.0)
        if path
        else series.generate(series.fitted()[GENERATED], series.DAY, SEED, f"generated like {GENERATED}")
    )
    return series.fitting(series.steepest(whole), settings.calm * settings.target * settings.maximum, SEED)


def measure(fleet: Fleet) -> list[Row]:
    settings = settings_of(fleet.inventory)
    one = chosen(settings)
    lead_in = [ceil(float(one.arrivals[:60].mean()))] * LEAD_IN_S
    counts = [*lead_in, *one.arrivals.tolist()]
    settle(fleet.inventory, settings.minimum)
    sending = load(fleet.client(), fleet.url, counts, "--seed", str(SEED), longest=len(counts))
    with Watch(fleet.inventory, every=1.0) as watch, sending as result:
        time.sleep(len(counts))
    began = float(result["began"])
    title = f"{one.name}, times {one.factor:g}"
    run = Run(title, due_times(counts, len(counts), SEED), watch.each_second(began, len(counts)))
    actions = [(at - began, count) for at, count in actions_of(fleet.inventory, began)]
    startup, source = expected_startup(settings)
    simulated = run.simulated(settings, startup)
    run.save(RECORD, simulated, settings.target)
    compared = rows(run, actions, simulated, settings.target, f"reference: simulated, {source}")
    return [*compared, *times(run, actions), *sent(result)]


def expected_startup(settings: Settings) -> tuple[float, str]:
    """Return the start-up for the simulation, and where it comes from."""
    try:
        return measured(FILE, SimulatedFleet()).startup, "with the bench's start-up"
    except (OSError, ValueError):
        return settings.lead_seconds, "with autoscaler_lead_seconds as the start-up"


def rows(run: Run, actions: Actions, simulated: Simulated, target: float, note: str) -> list[Row]:
    """Compare the fleet with the simulation, over the ten minutes."""
    real, expected = list(run.capacities)[LEAD_IN_S:], simulated.capacities[LEAD_IN_S:]
    shares = [100 * above(run.rates[LEAD_IN_S:], capacities, target) for capacities in (real, expected)]
    done = [sum(1 for at, _ in made if at >= LEAD_IN_S) for made in (actions, simulated.actions)]
    apart = float(np.abs(np.subtract(real, expected)).mean())
    return [
        Row("replay: time above capacity", shares[0], "%", shares[1], note),
        Row("replay: actions", done[0], "actions", done[1], note),
        Row("replay: instance-hours", sum(real) / 3600, "hours", sum(expected) / 3600, note),
        Row("replay: mean difference of the two capacities", apart, "instances", None, "each second"),
    ]


def times(run: Run, actions: Actions) -> list[Row]:
    """How long the instances took that were started for the replay."""
    before = [run.capacities[0], *(count for _, count in actions)]
    took = [
        second - at
        for (at, count), former in zip(actions, before, strict=False)
        if count > former
        for second in [next((s for s, number in enumerate(run.capacities) if s > at and number >= count), None)]
        if second is not None
    ]
    if not took:
        return []
    note = f"decision to rotation; shortest {min(took):.1f} s, longest {max(took):.1f} s; seen once a second"
    return [Row(f"replay: start-up, median of {len(took)}", median(took), "s", None, note)]


def sent(result: Mapping[str, float]) -> list[Row]:
    note = f"lead-in of {LEAD_IN_S} s included"
    return [
        Row("replay: requests", result["sent"], "requests", result["due"], f"reference: due; {note}"),
        Row("replay: failed", result["failed"], "requests", None, note),
        Row("replay: latency, 99 %", result["p99_s"], "s", None, note),
    ]
