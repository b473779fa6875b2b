"""Rehearse the runbook on the running lab fleet, under 200 reads and 20 majority writes a second.

usage: python -m drills [--quick] [--list] [--cut SEED] [NAME ...]    (make drills, make drill NAME=…; without a name,
all of them that the inventory allows)

Writes drills.json, drills.md and drills.svg into the folder `reports`. Exit status 1: a drill failed. Those after it
are played all the same while verify.yml finds the fleet whole; one that is not whole proves nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from drills import report
from drills.catalog import DRILLS
from drills.cuts import Cuts
from drills.model import Drill, Scene
from drills.run import play
from tests.harness import plays
from tests.harness.autoscaling import still

FOLDER = Path("reports")


def whole(scene: Scene) -> bool:
    """Whether verify.yml finds the fleet whole; otherwise what failed is printed."""
    done = plays.run(scene.inventory, "verify")
    print(plays.excerpt(done.stdout) if done.returncode else "The fleet is whole.", file=sys.stderr, flush=True)
    return done.returncode == 0


def chosen_of(names: list[str], quick: bool, inventory: str) -> list[Drill]:
    """The drills of these names, or all, of those that can be played on this inventory.

    Raises:
        ValueError: one that was named can't be.
    """
    found = [drill for drill in DRILLS if (not names or drill.name in names) and (drill.quick or not quick)]
    other = {drill.name: drill.inventory for drill in found if drill.inventory not in ("", inventory)}
    if names and other:
        shown = ", ".join(f"{name} on {needed}" for name, needed in other.items())
        raise ValueError(f"on inventories/{inventory} it can't be played: {shown} (LAB_PROFILE)")
    return [drill for drill in found if drill.name not in other]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="*", choices=[[], *(drill.name for drill in DRILLS)], help="default: all")
    parser.add_argument("--quick", action="store_true", help="only those that make test plays")
    parser.add_argument("--cut", type=int, metavar="SEED", help="kill each play once, at a moment that this seed gives")
    parser.add_argument("--list", action="store_true", help="name them, with the sections that each rehearses")
    options = parser.parse_args()
    if options.list:
        for drill in DRILLS:
            print(f"{drill.name:<20} {', '.join(drill.sections)}{drill.inventory and f' (on {drill.inventory})'}")
        return 0
    cuts = Cuts(options.cut) if options.cut is not None else None
    scene = Scene(os.environ["PHOENIX_INVENTORY"], os.environ["PHOENIX_URL"].rstrip("/"), cuts)
    try:
        chosen = chosen_of(options.name, options.quick, Path(scene.inventory).name)
    except ValueError as error:
        parser.error(str(error))
    failed = False
    # It would react to the load.
    with still(scene.inventory):
        for drill in chosen:
            print(f"drill: {drill.name}", file=sys.stderr, flush=True)
            outcome = play(drill, scene)
            # After each, so that a later one's failure loses nothing.
            report.write([outcome], FOLDER)
            print(report.row(outcome), flush=True)
            failed = failed or bool(outcome.wrong)
            if outcome.wrong:
                print("\n".join(outcome.wrong), file=sys.stderr, flush=True)
                if not whole(scene):
                    return 1
    return 1 if not whole(scene) or failed else 0


if __name__ == "__main__":
    sys.exit(main())
