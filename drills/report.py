"""The outcomes of drills as JSON, a table, and a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from drills.model import Outcome

HEAD = (
    "| drill | sections of the runbook | seconds | recovered after | reads failed (of; sent again) | longest read "
    "| writes lost (of) | longest without a write | data equal | result |\n|---|---|---|---|---|---|---|---|---|---|"
)


def link(section: str) -> str:
    """A link to a heading of the runbook, by its anchor there."""
    anchor = "".join(c for c in section.lower().replace(" ", "-") if c.isalnum() or c in "-_")
    return f"[{section}](runbook.md#{anchor})"


def row(outcome: Outcome) -> str:
    reads, writes, recovered = outcome.reads, outcome.writes, outcome.measured.get("recovered")
    cells = [
        f"`{outcome.name}`",
        ", ".join(map(link, outcome.sections)),
        f"{outcome.seconds:.0f}",
        "" if recovered is None else f"{recovered:.1f} s",
        f"{reads.get('failed', '?')} ({reads.get('sent', 0)}; {reads.get('retried', 0)})",
        f"{reads.get('max_s', 0):.2f} s",
        f"{len(writes.get('lost', []))} ({writes.get('acknowledged', 0)})",
        f"{writes.get('gap_s', 0):.2f} s",
        "yes" if outcome.equal else "no",
        "good"
        if not outcome.wrong
        else "**failed**: " + "; ".join(outcome.wrong).replace("|", "\\|").replace("\n", " "),
    ]
    return f"| {' | '.join(cells)} |"


def markdown(outcomes: Sequence[Outcome]) -> str:
    return "\n".join([HEAD, *map(row, outcomes)]) + "\n"


def picture(outcomes: Sequence[Outcome], path: Path) -> None:
    """Bars of the longest time without an acknowledged write, and of the slowest read, drill by drill."""
    import matplotlib as mpl  # noqa: PLC0415 - only where a picture is wanted

    mpl.use("svg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    names = [outcome.name for outcome in outcomes][::-1]
    figure, axes = plt.subplots(1, 2, sharey=True, figsize=(9, 1.2 + 0.35 * len(names)), layout="constrained")
    for axis, title, values in (
        (axes[0], "longest without an acknowledged write (s)", [o.writes.get("gap_s", 0.0) for o in outcomes][::-1]),
        (axes[1], "slowest read (s)", [o.reads.get("max_s", 0.0) for o in outcomes][::-1]),
    ):
        axis.barh(names, values, color=["#2c7fb8" if not o.wrong else "#d95f0e" for o in outcomes][::-1])
        axis.set_title(title, fontsize=10)
        axis.grid(axis="x", alpha=0.3)
    figure.savefig(path)
    plt.close(figure)


def write(outcomes: Sequence[Outcome], folder: Path) -> None:
    """Write drills.json, drills.md and drills.svg; a drill that ran again replaces its former outcome."""
    folder.mkdir(exist_ok=True)
    path = folder / "drills.json"
    before = [Outcome(**{**one, "sections": tuple(one["sections"])}) for one in _read(path)]
    merged = {outcome.name: outcome for outcome in (*before, *outcomes)}
    path.write_text(json.dumps([asdict(outcome) for outcome in merged.values()], indent=1) + "\n", encoding="utf-8")
    (folder / "drills.md").write_text(markdown(list(merged.values())), encoding="utf-8")
    picture(list(merged.values()), folder / "drills.svg")


def _read(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else []
