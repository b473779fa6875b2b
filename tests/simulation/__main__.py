"""Replay traffic through Phoenix's policy and through models of other autoscalers.

python -m tests.simulation                    series generated with the statistics of recorded ones (fitted.json)
python -m tests.simulation FOLDER             every recorded series of a folder (its format: tests/simulation/README.md)
python -m tests.simulation --scenarios        steps, ramps and spikes, at the lab's size
Prints a table and writes the frontier: time above capacity against instance-hours, actions as size. No fleet is needed.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from math import ceil
from pathlib import Path

from phoenix.autoscaler.policy import Settings
from tests.simulation import plot, series
from tests.simulation.replay import Fleet, Outcome, replay
from tests.simulation.scalers import Hpa, Knative, Phoenix, Scaler, TargetTracking
from tests.simulation.series import Series

HEAD = ("series", "scaler", "above capacity", "hours / oracle", "actions", "a day", "worst queue")
# Rows of bench.json.
STARTUP, DRAIN = "scale.yml: decision to rotation", "scale.yml: rotation to stopped"
THROUGHPUT = "one instance's throughput"


def scalers(fleet: Fleet, step: float) -> list[Scaler]:
    bounds = (fleet.rate, fleet.minimum, fleet.maximum)
    settings = Settings(target=fleet.rate, minimum=fleet.minimum, maximum=fleet.maximum)
    return [TargetTracking(*bounds), Hpa(*bounds), Knative(*bounds), Phoenix(settings, every=step)]


def compare(one: Series, fleet: Fleet) -> list[Outcome]:
    """Replay the same arrivals through each scaler alone, starting with the capacity that the first minute needs."""
    first = one.arrivals[: round(60 / one.step)].sum() / min(60.0, len(one.arrivals) * one.step)
    start = min(max(ceil(first / fleet.rate), fleet.minimum), fleet.maximum)
    return [replay(scaler, one.arrivals.tolist(), fleet, start, one.step) for scaler in scalers(fleet, one.step)]


def row(one: Series, outcome: Outcome) -> tuple[str, ...]:
    return (
        one.name,
        outcome.scaler,
        f"{outcome.under:.1%}",
        f"{outcome.cost:.2f}",
        f"{outcome.actions:,}",
        f"{outcome.actions / one.days:,.0f}",
        f"{outcome.worst_queue:,.0f}",
    )


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Format the rows as Markdown."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (HEAD, ("---",) * len(HEAD), *rows))


def chart(one: Series, outcomes: Sequence[Outcome], fleet: Fleet) -> plot.Chart:
    rate = [(float(t), rate) for t, rate in enumerate(outcomes[0].rates)]
    capacities = [
        plot.Steps(outcome.scaler, [(float(t), n * fleet.rate) for t, n in enumerate(outcome.capacities)])
        for outcome in outcomes
    ]
    return plot.Chart(one.name, rate, capacities)


def measured(path: Path, fleet: Fleet) -> Fleet:
    """The fleet with the start-up, drain and throughput that the bench measured.

    Raises:
        ValueError: the file has no such row.
    """
    rows = {str(one["name"]): float(one["value"]) for one in json.loads(path.read_text(encoding="utf-8"))}
    missing = [name for name in (STARTUP, DRAIN, THROUGHPUT) if name not in rows]
    if missing:
        raise ValueError(f"{path} has no {missing}: run `make bench THEME=autoscaler` first")
    return replace(fleet, startup=rows[STARTUP], drain=rows[DRAIN], throughput=rows[THROUGHPUT])


def pair(text: str) -> tuple[float, float]:
    first, _, last = text.partition("-")
    return float(first), float(last)


def factor(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    return name, float(number)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("folder", type=Path, nargs="?")
    made.add_argument("--scenarios", action="store_true", help="synthetic scenarios instead")
    made.add_argument("--days", type=pair, metavar="A-B", help="only these days of each recorded series, from 0")
    made.add_argument(
        "--factor", type=factor, action="append", default=[], metavar="NAME=N", help="scale a series by it"
    )
    made.add_argument("--scale", type=float, default=1.0, help="of the scenarios; 100 is 10,000 requests a second")
    made.add_argument("--hours", type=float, default=24.0, help="of each generated series")
    made.add_argument("--startup", type=float, default=7.0, help="seconds from a decision to rotation")
    made.add_argument("--bench", type=Path, help="bench.json: start-up, drain and throughput as measured")
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--frontier", type=Path, default=Path("frontier.svg"), help="the frontier's plot")
    made.add_argument("--plot", type=Path, help="also draw rate and capacities over time")
    made.add_argument("--fit", type=Path, help="only write the statistics of the folder's series to this file")
    return made


def chosen(options: argparse.Namespace) -> list[Series]:
    if options.folder:
        return series.folder(options.folder, options.days, dict(options.factor), options.seed)
    if options.scenarios:
        return series.synthetic(options.scale, options.seed)
    seconds = round(options.hours * 3600)
    return [series.generate(one, seconds, options.seed, name) for name, one in series.fitted().items()]


def main(arguments: list[str]) -> int:
    options = parser().parse_args(arguments)
    fleet = Fleet(startup=options.startup, minimum=2, maximum=max(1000, round(12 * options.scale)))
    try:
        fleet = measured(options.bench, fleet) if options.bench else fleet
        made = chosen(options)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    if options.fit:
        options.fit.write_text(json.dumps({one.name: asdict(series.fit(one)) for one in made}, indent=1) + "\n")
        return 0
    began, outcomes = time.monotonic(), {}
    for one in made:
        outcomes[one.name] = compare(one, fleet)
        print(f"{one.name}: {one.days:.2f} days, times {one.factor:g}", file=sys.stderr, flush=True)
    print(table([row(one, outcome) for one in made for outcome in outcomes[one.name]]))
    print(f"\n{sum(one.days for one in made):.1f} days in {time.monotonic() - began:.0f} s", file=sys.stderr)
    points = {
        one.name: [plot.Point(o.scaler, o.cost, o.under, o.actions / one.days) for o in outcomes[one.name]]
        for one in made
    }
    plot.frontier(options.frontier, points)
    if options.plot:
        plot.save(options.plot, [chart(one, outcomes[one.name], fleet) for one in made])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
