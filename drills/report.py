"""The outcomes of drills as JSON, a page with a table, and a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from drills.model import Outcome
from tests.harness.load import RATE
from tests.harness.writes import RATE as WRITES
from tests.simulation import plot

HEAD = (
    "| drill | sections of the runbook | run | seconds | recovered after | reads failed (of; sent again) "
    "| longest read | writes lost (of) | longest without a write | data equal | result |\n" + 11 * "|---" + "|"
)
# From the folder `reports`, and from `docs`, where a report may be kept.
RUNBOOK = "../docs/runbook.md"
LONGEST = 200  # characters of an error in a cell; drills.json has all of it


def link(section: str) -> str:
    """A link to a heading of the runbook, by its anchor there."""
    anchor = "".join(c for c in section.lower().replace(" ", "-") if c.isalnum() or c in "-_")
    return f"[{section}]({RUNBOOK}#{anchor})"


def row(outcome: Outcome) -> str:
    reads, writes = outcome.reads, outcome.writes
    # What else was measured is named.
    times = [
        f"{seconds:.1f} s" if name == "recovered" else f"{name} {seconds:.1f} s"
        for name, seconds in outcome.measured.items()
    ]
    cells = [
        f"`{outcome.name}`",
        ", ".join(map(link, outcome.sections)),
        outcome.run,
        f"{outcome.seconds:.0f}",
        ", ".join(times),
        f"{reads.get('failed', '?')} ({reads.get('sent', 0)}; {reads.get('retried', 0)})",
        f"{reads.get('max_s', 0):.2f} s",
        f"{len(writes.get('lost', []))} ({writes.get('acknowledged', 0)})",
        f"{writes.get('gap_s', 0):.2f} s",
        "yes" if outcome.equal else "no",
        "good" if not outcome.wrong else f"**failed**: {'; '.join(map(_short, outcome.wrong))}",
    ]
    return f"| {' | '.join(cells)} |"


def _short(error: str) -> str:
    """An error as a part of a cell: its first line."""
    line = error.partition("\n")[0].replace("|", "\\|")
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"


def markdown(outcomes: Sequence[Outcome]) -> str:
    failed = sum(bool(outcome.wrong) for outcome in outcomes)
    lines = [
        "# Drills",
        "",
        f"{len(outcomes)} drills, each under {RATE} reads and {WRITES} majority writes a second: "
        f"**{f'{failed} failed' if failed else 'all good'}**.",
        "",
        "![How long each took to recover, was without a write, and its slowest read](drills.svg)",
        "",
        HEAD,
        *map(row, outcomes),
    ]
    return "\n".join(lines) + "\n"


def picture(outcomes: Sequence[Outcome], path: Path) -> None:
    """Bars, drill by drill: until recovered, the longest time without an acknowledged write, and the slowest read."""
    outcomes = outcomes[::-1]
    colours = [plot.STYLES[1 if outcome.wrong else 0][0] for outcome in outcomes]
    names = [f"{outcome.name} (failed)" if outcome.wrong else outcome.name for outcome in outcomes]
    panels = (
        ("Recovered after", [outcome.measured.get("recovered") for outcome in outcomes]),
        ("Longest without a write", [outcome.writes.get("gap_s") for outcome in outcomes]),
        ("Slowest read", [outcome.reads.get("max_s") for outcome in outcomes]),
    )
    with plot.style():
        height = 0.9 + 0.28 * len(outcomes)
        # By hand: the solver of matplotlib's layouts does not give the same bytes each time.
        margins = {"left": 0.16, "right": 0.97, "bottom": 0.45 / height, "top": 1 - 0.35 / height, "wspace": 0.15}
        figure = Figure(figsize=(plot.WIDTH * 1.2, height))
        charts = figure.subplots(1, len(panels), sharey=True, gridspec_kw=margins)
        for axes, (title, values) in zip(charts, panels, strict=True):
            bars = axes.barh(range(len(outcomes)), [value or 0.0 for value in values], color=colours, height=0.7)
            axes.bar_label(bars, ["" if value is None else f"{value:.3g}" for value in values], padding=2, fontsize=8)
            axes.set(title=title, xlabel="s")
            # Room for the longest bar's label.
            axes.set_xlim(0, 1.2 * max((value or 0.0 for value in values), default=0.0) or 1)
            axes.grid(axis="x", color="0.92")
            axes.set_axisbelow(True)
        axes.set_yticks(range(len(outcomes)), names)
        axes.set_ylim(-0.6, len(outcomes) - 0.4)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def write(outcomes: Sequence[Outcome], folder: Path) -> None:
    """Write drills.json, drills.md and drills.svg; a drill that ran again replaces its former outcome."""
    folder.mkdir(exist_ok=True)
    path = folder / "drills.json"
    before = [Outcome(**{**one, "sections": tuple(one["sections"])}) for one in _read(path)]
    merged = list({outcome.name: outcome for outcome in (*before, *outcomes)}.values())
    path.write_text(json.dumps([asdict(outcome) for outcome in merged], indent=1) + "\n", encoding="utf-8")
    (folder / "drills.md").write_text(markdown(merged), encoding="utf-8")
    picture(merged, folder / "drills.svg")


def _read(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else []
