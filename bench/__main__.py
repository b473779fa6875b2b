"""Measure the design's figures on the running lab fleet; print a table and write bench.json.

usage: python -m bench [theme ...]    (make bench; without a theme, all but those of an hour)

A theme is a module of this package with a function `measure(fleet) -> list[Row]`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import pkgutil
import sys
import time
from collections.abc import Sequence

import bench
from bench.fleet import FILE, Fleet, Row
from tests.harness.autoscaling import still

# They measure how the capacity follows a load; it would react to the load of the others.
FOLLOWING = ("autoscaler", "demand", "replay")
# It takes an hour.
BY_NAME = ("saturated",)


def themes() -> list[str]:
    """List the modules that measure something."""
    return [
        m.name
        for m in pkgutil.iter_modules(bench.__path__)
        if m.name not in ("__main__", "fleet", "namespaces", "serving", "sizes")
    ]


def table(rows: Sequence[Row]) -> str:
    """Format the rows as a table for people."""
    lines = [("what", "value", "unit", "reference", "ratio", "note")]
    for row in rows:
        data = row.as_json()
        shown = ["" if data[key] is None else f"{data[key]:g}" for key in ("value", "reference", "ratio")]
        lines.append((row.name, shown[0], row.unit, shown[1], shown[2], row.note))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("theme", nargs="*", choices=[[], *themes()], help="default: all but those that take an hour")
    named = parser.parse_args().theme
    chosen = named or [theme for theme in themes() if theme not in BY_NAME]
    fleet = Fleet(os.environ["PHOENIX_INVENTORY"], os.environ["PHOENIX_URL"])
    rows: list[Row] = []
    for theme in chosen:
        start = time.monotonic()
        print(f"measuring: {theme}", file=sys.stderr, flush=True)
        with contextlib.nullcontext() if theme in FOLLOWING else still(fleet.inventory):
            measured = importlib.import_module(f"bench.{theme}").measure(fleet)
        if named and not measured:
            print(f"{theme}: this fleet has nothing that it measures (LAB_PROFILE)", file=sys.stderr)
            return 1
        rows += measured
        print(f"measured: {theme}, {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
        # After each theme, so that a later one's failure loses nothing.
        FILE.write_text(json.dumps([row.as_json() for row in rows], indent=1) + "\n")
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
