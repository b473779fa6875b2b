"""What the charts of the alarms showed on the running lab fleet, kept to be replayed through the alarms.

python -m tests.simulation.recorded INVENTORY MINUTES FILE.csv.gz
Takes the last minutes out of the history of Netdata's parent, so it is run afterwards, such as after `make backup`.
"""

from __future__ import annotations

import csv
import gzip
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.harness.hosts import first_of, remote
from tests.simulation import health
from tests.simulation.health import Alarm, Chart, Raised
from tests.tools.coverage import ALARMS
from tests.unit.shared import rendered

# The shortest time that an alarm looks back at.
INTERVAL = 10
# Charts whose dimensions other charts' alarms name.
NAMED = {"system.ram"}

Recording = Mapping[tuple[str, str, str], Mapping[str, list[float]]]


def read(lines: Iterable[str]) -> Recording:
    """(host, chart, context) -> dimension -> the values."""
    found: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for host, chart, context, dimension, *values in csv.reader(lines):
        found.setdefault((host, chart, context), {})[dimension] = [float(value) for value in values]
    return found


def load(path: Path) -> Recording:
    return read(gzip.decompress(path.read_bytes()).decode().splitlines())


def replay(recording: Recording, alarms: list[Alarm]) -> list[Raised]:
    """Every incident of the recorded time."""

    def chart(key: tuple[str, str, str], dimensions: Mapping[str, list[float]]) -> Chart:
        host, name, context = key
        return Chart(
            name,
            context,
            lambda now: {dimension: values[int(now // INTERVAL)] for dimension, values in dimensions.items()},
            host,
            INTERVAL,
        )

    charts = [chart(key, dimensions) for key, dimensions in recording.items()]
    length = min(len(values) for dimensions in recording.values() for values in dimensions.values())
    return health.run(alarms, charts, length * INTERVAL)


def main(inventory: str, minutes: str, file: str) -> int:
    alarms = health.read(rendered(ALARMS))
    contexts = {alarm.on for alarm in alarms} | NAMED
    words = [int(minutes) * 60, INTERVAL, *sorted(contexts)]
    text = first_of("control", inventory).check_output(remote("charts_history", *words)) + "\n"
    Path(file).write_bytes(gzip.compress(text.encode(), mtime=0))
    recording = load(Path(file))
    missing = contexts - {context for _, _, context in recording}
    print(f"{len(recording)} charts; without one: {', '.join(sorted(missing)) or 'no alarm'}")
    for one in replay(recording, alarms):
        print(f"raised after {one.at:.0f} s: {one.alarm} of {one.host} {one.chart}: {one.value:g}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
