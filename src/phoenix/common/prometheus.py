"""Writing and reading gauges in Prometheus' text exposition format."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping


def exposition(gauges: Mapping[str, float], texts: Mapping[str, str] | None = None) -> str:
    """Format the gauges in their order; texts: help for those whose names do not explain them.

    https://prometheus.io/docs/instrumenting/exposition_formats/
    """
    lines = []
    for name, value in gauges.items():
        if texts and name in texts:
            lines.append(f"# HELP {name} {texts[name]}")
        lines += [f"# TYPE {name} gauge", f"{name} {value:.15g}"]
    return "".join(line + "\n" for line in lines)


def read(text: str) -> dict[str, float]:
    """Parse the gauges of a text in Prometheus' format, by name and labels; other lines are skipped."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        match = re.fullmatch(r"([a-zA-Z_:][\w:]*)(\{[^}]*\})?\s+(\S+)(\s+\d+)?", line.strip())
        if match is None or line.startswith("#"):
            continue
        try:
            found[match[1] + (match[2] or "")] = float(match[3])
        except ValueError:
            continue
    return {name: value for name, value in found.items() if math.isfinite(value)}
