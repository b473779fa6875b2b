"""Replay traffic through Phoenix's policy and through models of other autoscalers.

python -m tests.simulation                    the synthetic scenarios, at the lab's size
python -m tests.simulation --scale 100        the same for 10,000 requests a second and 1,000 instances
python -m tests.simulation --series FILE.csv  a recorded series: requests of each second, in the last column
Prints a table; --plot FILE.svg draws rate and capacities. Nothing needs a fleet.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from math import ceil
from pathlib import Path

from phoenix.autoscaler.meter import STEP
from phoenix.autoscaler.policy import Settings
from tests.simulation import plot
from tests.simulation.replay import Fleet, Outcome, replay
from tests.simulation.scalers import Hpa, Knative, Phoenix, Scaler, TargetTracking
from tests.simulation.series import noisy, recorded, scenarios

HEAD = ("scenario", "scaler", "under capacity", "worst queue", "instance-hours", "actions")


def scalers(fleet: Fleet) -> list[Scaler]:
    bounds = (fleet.rate, fleet.minimum, fleet.maximum)
    settings = Settings(target=fleet.rate, minimum=fleet.minimum, maximum=fleet.maximum)
    return [Phoenix(settings), Knative(*bounds), Hpa(*bounds), TargetTracking(*bounds)]


def compare(arrivals: Sequence[int], fleet: Fleet) -> list[Outcome]:
    """Replay the same arrivals through each scaler alone, starting with the capacity that the first minute needs."""
    first = sum(arrivals[: round(60 / STEP)]) / min(60.0, len(arrivals) * STEP)
    start = min(max(ceil(first / fleet.rate), fleet.minimum), fleet.maximum)
    return [replay(scaler, arrivals, fleet, start) for scaler in scalers(fleet)]


def row(name: str, outcome: Outcome) -> tuple[str, ...]:
    return (
        name,
        outcome.scaler,
        f"{outcome.under:.2%}",
        f"{outcome.worst_queue:.0f}",
        f"{outcome.instance_hours:.2f}",
        str(outcome.actions),
    )


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Format the rows as Markdown."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (HEAD, ("---",) * len(HEAD), *rows))


def chart(name: str, outcomes: Sequence[Outcome], fleet: Fleet) -> plot.Chart:
    rate = [(float(t), rate) for t, rate in enumerate(outcomes[0].rates)]
    capacities = [
        plot.Steps(outcome.scaler, [(float(t), n * fleet.rate) for t, n in enumerate(outcome.capacities)])
        for outcome in outcomes
    ]
    return plot.Chart(name, rate, capacities)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=Path, action="append", default=[], help="recorded traffic")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--startup", type=float, default=7.0, help="seconds from a decision to rotation")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args(arguments)
    fleet = Fleet(startup=options.startup, minimum=2, maximum=max(12, round(12 * options.scale)))
    if options.series:
        series = {path.stem: recorded(path) for path in options.series}
    else:
        made = scenarios(options.scale).items()
        series = {name: noisy(rate, seconds, options.seed) for name, (rate, seconds) in made}
    began = time.monotonic()
    outcomes = {name: compare(arrivals, fleet) for name, arrivals in series.items()}
    took = time.monotonic() - began
    print(table([row(name, outcome) for name, found in outcomes.items() for outcome in found]))
    hours = sum(map(len, series.values())) * STEP / 3600
    print(f"\n{hours:.1f} h of traffic, four scalers, in {took:.1f} s", file=sys.stderr)
    if options.plot:
        plot.save(options.plot, [chart(name, found, fleet) for name, found in outcomes.items()])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
