"""Line charts as SVG files, drawn by matplotlib; the same numbers give the same bytes.

usage: python -m tests.simulation.plot RECORD.json PICTURE.svg    redraws what a bench recorded
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.style import context
from matplotlib.ticker import MaxNLocator

WIDTH, HEIGHT = 9.0, 3.2  # inches, of one chart
RATE = "0.7"
# Petroff's colours, distinct under the common colour-vision deficiencies; the dashes are for prints in black and white.
STYLES = (("#5790fc", "-"), ("#e42536", "--"), ("#f89c20", "-."), ("#964a8b", ":"))


@dataclass(frozen=True)
class Steps:
    """A named series of (time in seconds, value) that keeps each value until the next."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """The rate of requests as (time in seconds, requests/s), and the capacities meant for it on the same axes."""

    title: str
    rate: Sequence[tuple[float, float]]
    capacities: Sequence[Steps]


def style() -> AbstractContextManager[None]:
    """Apply the settings of matplotlib with which charts are drawn and saved."""
    own = {
        "axes.autolimit_mode": "round_numbers",
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlelocation": "left",
        "axes.titleweight": "bold",
        "axes.xmargin": 0,
        "font.size": 9,
        # A day of noise has more points than the page has dots: points that move a line by less than one are omitted.
        "path.simplify_threshold": 1.0,
        "svg.hashsalt": "phoenix",
    }
    return context(["default", own])


def save(path: Path, charts: Sequence[Chart]) -> None:
    """Draw the charts one below the other, as an SVG file without a date."""
    with style():
        figure = Figure(figsize=(WIDTH, HEIGHT * len(charts)), layout="constrained")
        for axes, chart in zip(figure.subplots(len(charts), squeeze=False)[:, 0], charts, strict=True):
            draw(axes, chart)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


@dataclass(frozen=True)
class Point:
    """A scaler on one series: instance-hours against the oracle's, share of time above capacity, actions a day."""

    scaler: str
    cost: float
    above: float
    actions: float


MARKS = ("o", "s", "^", "D")


def frontier(path: Path, charts: Mapping[str, Sequence[Point]]) -> None:
    """Draw time above capacity against instance-hours for each series, actions as size; the lower left is better."""
    columns = min(3, len(charts))
    rows = -(-len(charts) // columns)
    with style():
        figure = Figure(figsize=(WIDTH, 3.4 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, (title, points) in zip(grid.flat, charts.items(), strict=False):
            for number, name in enumerate(dict.fromkeys(point.scaler for point in points)):
                own = [point for point in points if point.scaler == name]
                axes.scatter(
                    [point.cost for point in own],
                    [point.above * 100 for point in own],
                    # The area grows with the actions, but so that a few are visible and thousands do not hide others.
                    s=[20 + 4 * point.actions**0.5 for point in own],
                    marker=MARKS[number % len(MARKS)],
                    color=STYLES[number % len(STYLES)][0],
                    alpha=0.8,
                    label=name,
                )
            axes.set(title=title, xlabel="instance-hours / oracle's", ylabel="time above capacity (%)")
            axes.margins(0.15)
            axes.set_ylim(bottom=0)
            axes.grid(color="0.9")
            axes.set_axisbelow(True)
        for axes in grid.flat[len(charts) :]:
            axes.axis("off")
        handles, labels = grid.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def draw(axes: Axes, chart: Chart) -> None:
    """Draw a chart.

    Raises:
        ValueError: it has more capacities than there are styles.
    """
    if len(chart.capacities) > len(STYLES):
        raise ValueError(f"{chart.title}: {len(STYLES)} capacities at most, not {len(chart.capacities)}")
    # First, since the limits are rounded to its ticks.
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 3, 5, 10]))
    divisor, unit = _time_unit(max(at for at, _ in chart.rate))
    axes.plot(
        [at / divisor for at, _ in chart.rate], [rate for _, rate in chart.rate], color=RATE, linewidth=1, label="rate"
    )
    for line, (colour, dashes) in zip(chart.capacities, STYLES, strict=False):
        times, values = zip(*line.points, strict=True)
        axes.step([at / divisor for at in times], values, where="post", color=colour, linestyle=dashes, label=line.name)
    axes.set(title=chart.title, xlabel=f"time ({unit})", ylabel="requests/s")
    axes.set_ylim(bottom=0)
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    # Above the axes: the lines may be anywhere within.
    axes.legend(
        loc="lower right", bbox_to_anchor=(1, 1), ncols=1 + len(chart.capacities), frameon=False, borderaxespad=0
    )


def _time_unit(seconds: float) -> tuple[float, str]:
    """Return a divisor of seconds and the unit of the result, so that the axis has few digits."""
    if seconds > 7200:
        return 3600.0, "h"
    return (60.0, "min") if seconds >= 600 else (1.0, "s")


def recorded(path: Path) -> Chart:
    """Chart what a bench recorded on a fleet: the rate, and numbers of instances times their target rate."""
    record = json.loads(path.read_text(encoding="utf-8"))
    target = record["target"]
    capacities = [
        Steps(name, [(at, count * target) for at, count in record[key]])
        for name, key in (
            ("capacity in rotation", "rotation"),
            ("as simulated", "simulated"),
            ("what the hosts hold", "room"),
        )
        if key in record
    ]
    return Chart(record["title"], record["rate"], capacities)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path)
    parser.add_argument("picture", type=Path)
    options = parser.parse_args(arguments)
    save(options.picture, [recorded(options.record)])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
