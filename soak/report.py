"""A soak's record as JSON, a page, and a timeline as a picture.

usage: python -m soak.report RECORD.json PICTURE.svg    draws what was recorded
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from soak.record import Record, each_second, percentile
from tests.harness.load import RATE, summary
from tests.harness.writes import RATE as WRITES
from tests.simulation import plot

HEAD = (
    "| fault | at | kind | host | seen | away for | as before after | limit | reads at first failed "
    "| read p99 | longest without a write |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


def data(record: Record) -> dict[str, Any]:
    """Return all that the page and the picture show: of the series, what each second had."""
    # The last one is not whole.
    seconds = int(record.seconds)
    reads, writes = record.reads.get("series", []), record.writes.get("series", [])
    each = each_second(reads, seconds)
    answered = each_second([(due + latency, latency) for due, latency, _ in reads], seconds)
    return {
        "seed": record.seed,
        "seconds": round(record.seconds, 1),
        "wrong": record.wrong,
        "left_out": dict(record.left_out),
        "reads": {
            **summary(record.reads),
            **{
                name: {
                    "count": len(values),
                    **{f"p{share}_s": percentile(values, share / 100) for share in (50, 99)},
                    "max_s": percentile(values, 1),
                }
                for name, values in record.latencies().items()
            },
        },
        "writes": summary(record.writes),
        "faults": [_fault(record, number) for number in range(len(record.faults))],
        "each_second": {
            "reads": [len(values) for values in answered],
            "read_p50_s": [percentile(values, 0.5) for values in each],
            "read_p99_s": [percentile(values, 0.99) for values in each],
            "writes": [len(values) for values in each_second(writes, seconds)],
        },
    }


def _fault(record: Record, number: int) -> dict[str, Any]:
    fault = record.faults[number]
    end = record.seconds if fault.whole is None else fault.whole
    during = [(latency, outcome) for due, latency, outcome in record.reads.get("series", []) if fault.at <= due <= end]
    # The last before it counts, too: the pause begins with that.
    acknowledged = [at for at, _ in record.writes.get("series", []) if fault.at - 1 <= at <= end]
    rounded = {name: round(value, 2) for name, value in asdict(fault).items() if isinstance(value, float)}
    return {
        **asdict(fault),
        **rounded,
        "recovered_s": None if fault.recovered_s is None else round(fault.recovered_s, 1),
        "again": sum(outcome > 0 for _, outcome in during),
        "p99_s": percentile(sorted(latency for latency, _ in during), 0.99),
        "gap_s": round(max((b - a for a, b in itertools.pairwise(acknowledged)), default=0.0), 2),
    }


def row(fault: Mapping[str, Any]) -> str:
    wrong = [fault["error"]] if fault["error"] else []
    recovered = "**no**" if fault["recovered_s"] is None else f"{fault['recovered_s']:.1f} s"
    away = f"{fault['ended'] - fault['at']:.0f} s" if fault["lasts"] and fault["ended"] is not None else ""
    cells = [
        str(fault["number"]), f"{fault['at']:.0f} s", fault["kind"], fault["host"],
        "; ".join([fault["seen"], *wrong, *fault["missing"]]).strip("; ").replace("|", "\\|").replace("\n", " "),
        away, recovered, f"{fault['limit_s']:.0f} s", str(fault["again"]), f"{fault['p99_s']:.2f} s",
        f"{fault['gap_s']:.1f} s",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def markdown(found: Mapping[str, Any]) -> str:
    reads, writes = found["reads"], found["writes"]
    lines = [
        "# Soak",
        "",
        f"Seed {found['seed']}, {len(found['faults'])} faults in {found['seconds'] / 60:.0f} minutes, "
        f"under {RATE} reads and {WRITES} majority writes a second: **{'not good' if found['wrong'] else 'good'}**.",
        "",
        *(f"- {one}" for one in found["wrong"]),
        *([""] if found["wrong"] else []),
        "| | reads | p50 | p99 | longest |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {part['count']} | {part['p50_s'] * 1000:.0f} ms | {part['p99_s'] * 1000:.0f} ms "
            f"| {part['max_s']:.2f} s |"
            for name, part in (("calm", reads["calm"]), ("under faults", reads["faults"]))
        ),
        "",
        f"{reads.get('failed', '?')} of {reads.get('sent', 0)} reads failed; {reads.get('retried', 0)} were sent again "
        "as they were in flight on a lost load balancer. "
        f"{len(writes.get('lost', []))} of {writes.get('acknowledged', 0)} acknowledged writes are lost, "
        f"{writes.get('failed', 0)} were refused.",
        "",
        "![Timeline](soak.svg)",
        "",
        HEAD,
        *map(row, found["faults"]),
        "",
        *(f"Left out: {kind}: {why}." for kind, why in found["left_out"].items()),
    ]
    return "\n".join(lines).rstrip() + "\n"


def picture(found: Mapping[str, Any], path: Path) -> None:
    """Draw rates, latencies and faults, one below the other over the same time, as an SVG file without a date."""
    each, faults = found["each_second"], found["faults"]
    kinds = sorted({fault["kind"] for fault in faults}, reverse=True)
    with plot.style():
        heights = [1.6, 2.4, 0.3 + 0.22 * len(kinds)]
        height = sum(heights) + 1.8
        # By hand: the solver of matplotlib's layouts does not give the same bytes each time.
        margins = {"left": 0.14, "right": 0.97, "bottom": 0.5 / height, "top": 1 - 0.4 / height, "hspace": 0.3}
        figure = Figure(figsize=(plot.WIDTH * 1.3, height))
        rate, latency, lanes = figure.subplots(3, sharex=True, gridspec_kw={"height_ratios": heights, **margins})
        minutes = [second / 60 for second in range(len(each["reads"]))]
        _lines(rate, minutes, (("reads", each["reads"]), ("majority writes", each["writes"])))
        rate.set(title="Answered and acknowledged by second", ylabel="requests/s")
        rate.set_ylim(bottom=0)
        _lines(latency, minutes, (("p50", each["read_p50_s"]), ("p99", each["read_p99_s"])))
        for number, (name, share) in enumerate((name, share) for share in (50, 99) for name in ("calm", "faults")):
            value = found["reads"][name][f"p{share}_s"]
            if value:
                colour, dashes = plot.STYLES[share == 99][0], ":" if name == "calm" else "--"
                where = "in calm" if name == "calm" else "under faults"
                label = f"p{share} {where}: {value * 1000:.0f} ms"
                latency.axhline(value, color=colour, linestyle=dashes, linewidth=0.8, label=label, zorder=number)
        latency.set(title="Latency of reads", ylabel="s", yscale="log")
        for axes in (rate, latency):
            axes.legend(loc="upper left", ncols=6, frameon=False, fontsize=8)
            axes.margins(y=0.25)
            axes.grid(color="0.92")
        _lanes(lanes, kinds, faults, found["seconds"])
        for fault in faults:
            for axes in (rate, latency):
                axes.axvspan(fault["at"] / 60, _end(fault, found["seconds"]) / 60, color="0.9", zorder=0)
        lanes.xaxis.set_major_locator(MaxNLocator(nbins=12, steps=[1, 2, 3, 5, 10]))
        lanes.set(title="Faults, until the fleet was as before", xlabel="time (min)")
        lanes.set_xlim(0, found["seconds"] / 60)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _lines(axes: Axes, times: Sequence[float], lines: Sequence[tuple[str, Sequence[float]]]) -> None:
    for (name, values), (colour, _) in zip(lines, plot.STYLES, strict=False):
        # A second without any is a gap.
        axes.plot(times, [value or float("nan") for value in values], color=colour, linewidth=0.8, label=name)


def _lanes(axes: Axes, kinds: Sequence[str], faults: Sequence[Mapping[str, Any]], seconds: float) -> None:
    for fault in faults:
        lane, end = kinds.index(fault["kind"]), _end(fault, seconds)
        begin, ended = fault["at"], fault["ended"] if fault["ended"] is not None else end
        bad = fault["error"] or fault["whole"] is None
        colour = plot.STYLES[1 if bad else 0][0]
        axes.broken_barh([(begin / 60, max(ended - begin, 1) / 60)], (lane - 0.35, 0.7), color=colour)
        axes.broken_barh([(ended / 60, (end - ended) / 60)], (lane - 0.35, 0.7), color=colour, alpha=0.4)
        axes.annotate(fault["host"], (end / 60, lane), xytext=(3, 0), textcoords="offset points", va="center", size=7)
    axes.set_yticks(range(len(kinds)), kinds)
    axes.set_ylim(-0.6, len(kinds) - 0.4)
    axes.grid(axis="x", color="0.92")


def _end(fault: Mapping[str, Any], seconds: float) -> float:
    return float(seconds if fault["whole"] is None else fault["whole"])


def write(record: Record, folder: Path) -> dict[str, Any]:
    """Write soak.json, soak.md and soak.svg, and return what is in the first."""
    folder.mkdir(exist_ok=True)
    found = data(record)
    (folder / "soak.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (folder / "soak.md").write_text(markdown(found), encoding="utf-8")
    if found["faults"]:
        picture(found, folder / "soak.svg")
    return found


if __name__ == "__main__":
    picture(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
