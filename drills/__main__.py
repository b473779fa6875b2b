"""Rehearse the runbook on the running lab fleet, under 200 reads and 20 majority writes a second.

usage: python -m drills [--quick] [--list] [NAME ...]    (make drills, make drill NAME=…; without a name, all of them)

Writes drills.json, drills.md and drills.svg into the folder `reports`. Exit status 1: a drill failed; those after it
were not begun, as a fleet that is not whole proves nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from pathlib import Path

from drills import report
from drills.catalog import DRILLS
from drills.model import Drill, Outcome, Scene
from tests.harness import load, plays, writes
from tests.harness.autoscaling import still
from tests.harness.hosts import first_of
from tests.harness.pair import PATIENT

FOLDER = Path("reports")
LONGEST_S = 3600


def play(drill: Drill, scene: Scene) -> Outcome:
    """Play a drill from its preparation to its clean-up."""
    measured: dict[str, float] = {}
    reads: dict[str, object] = {}
    written: dict[str, object] = {}
    error, seconds = "", 0.0
    try:
        drill.prepare(scene)
        options = PATIENT if drill.moved else ()
        client = first_of("client", scene.inventory)
        with (
            writes.writes(scene.inventory, scene.first(drill.writer)) as written,
            load.load(client, scene.url, load.RATE, *options, longest=LONGEST_S) as reads,
        ):
            began = time.monotonic()
            try:
                measured = drill.act(scene)
            finally:
                seconds = time.monotonic() - began
    except Exception as failure:  # noqa: BLE001 - whatever it was is the outcome
        error = f"{type(failure).__name__}: {failure}"
    finally:
        with contextlib.suppress(Exception) if error else contextlib.nullcontext():
            drill.clean(scene)
    equal = writes.data_equal(scene.inventory)
    return Outcome(drill.name, drill.sections, round(seconds, 1), measured, reads, written, equal, error)


def main() -> int:
    known = {drill.name: drill for drill in DRILLS}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="*", choices=[[], *known], help="default: all")
    parser.add_argument("--quick", action="store_true", help="only the quick ones")
    parser.add_argument("--list", action="store_true", help="name them, with the sections that each rehearses")
    options = parser.parse_args()
    chosen = [drill for drill in DRILLS if drill.name in (options.name or known) and (drill.quick or not options.quick)]
    if options.list:
        print("\n".join(f"{drill.name:<20} {', '.join(drill.sections)}" for drill in chosen))
        return 0
    scene = Scene(os.environ["PHOENIX_INVENTORY"], os.environ["PHOENIX_URL"].rstrip("/"))
    # It would react to the load.
    with still(scene.inventory):
        for drill in chosen:
            print(f"drill: {drill.name}", file=sys.stderr, flush=True)
            outcome = play(drill, scene)
            # After each, so that a later one's failure loses nothing.
            report.write([outcome], FOLDER)
            print(report.row(outcome), flush=True)
            if outcome.wrong:
                return 1
    done = plays.run(scene.inventory, "verify")
    print(done.stdout[-2000:] if done.returncode else "The fleet is whole.", file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
