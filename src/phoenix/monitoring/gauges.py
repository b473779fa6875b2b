"""What other parts of Phoenix write into files, as charts."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from phoenix.common import prometheus
from phoenix.monitoring.charts import Chart, Collector


def metric_chart(name: str, value: float, written: float, now: float) -> Chart:
    """One gauge as a chart. Times and ages become ages as of now: what nobody renews grows older by itself.

    `written` is the time at which its file was, `now` the present; both in seconds since 1970.
    """
    plain = name.partition("{")[0]
    if plain.endswith("_timestamp_seconds"):
        plain, value, units = plain.replace("_timestamp_seconds", "_age_seconds"), max(0.0, now - value), "seconds"
    elif plain.endswith("_age_seconds"):
        value, units = value + max(0.0, now - written), "seconds"
    else:
        units = plain.rpartition("_")[2]
    labels = re.sub(r"\W+", "_", name.partition("{")[2]).strip("_")
    short = plain.removeprefix("phoenix_")
    chart_id = f"phoenix_metrics.{short}" + (f"_{labels}" if labels else "")
    return Chart(chart_id, short.replace("_", " "), units, f"phoenix.{short}", {"value": value})


class Metrics(Collector):
    """What other parts of Phoenix write into *.prom files, and for how long nobody has renewed an expected one."""

    def __init__(self, folders: list[str], expected: list[str], since: Path) -> None:
        self.folders, self.expected, self.since = [Path(folder) for folder in folders], expected, since
        self.seen: dict[str, float] = {}  # by part: when its file was last written, seconds since 1970

    def first_start(self) -> float:
        """When this collector first ran on this host, seconds since 1970: a file can't be late before."""
        if not self.since.exists():
            self.since.touch()
        return self.since.stat().st_mtime

    def collect(self, now: float) -> Iterator[Chart]:
        clock = time.time()
        found: dict[str, float] = {}
        for file in sorted(file for folder in self.folders for file in folder.glob("*.prom")):
            try:
                written, text = file.stat().st_mtime, file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                print(f"Metrics: {file}: {error}", file=sys.stderr)  # missing, then: the others still count
                continue
            found[file.stem] = written
            for name, value in prometheus.read(text).items():
                yield metric_chart(name, value, written, clock)
        for part in self.expected:
            if part in found:
                self.seen[part] = found[part]
            # The very first time, the file that was touched just now is younger than the look.
            missing = max(0.0, clock - self.seen.setdefault(part, self.first_start()))
            yield Chart(
                f"phoenix_missing.{part}",
                f"For how long there have been no new metrics of the {part}",
                "seconds",
                "phoenix.metrics_missing",
                {"missing": missing},
            )
