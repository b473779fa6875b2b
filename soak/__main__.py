"""Provoke random single faults on the running lab fleet, under 200 reads and 20 majority writes a second.

usage: python -m soak [--minutes N] [--seed N] [--p99 SECONDS] [--plan N] [KIND ...]    (make soak MINUTES=30
SEED=n; without a kind, all of them)

Prints one line a fault, and writes soak.json, soak.md and soak.svg into the folder `reports`. Exit status 1: something
was not as it has to be. The fleet is put back in any case, also after Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

from drills.model import Scene
from soak import report, run
from soak.faults import FAULTS
from tests.harness import plays
from tests.harness.autoscaling import still

FOLDER = Path("reports")
READ_P99_S = 0.25


def interrupted(*_: Any) -> None:
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", nargs="*", choices=[[], *(fault.kind.name for fault in FAULTS)], help="default: all")
    parser.add_argument("--minutes", type=float, default=30, help="default: 30")
    parser.add_argument("--seed", type=int, help="default: another one each time")
    parser.add_argument("--p99", type=float, default=READ_P99_S, help=f"limit of reads, default: {READ_P99_S} s")
    parser.add_argument("--plan", type=int, metavar="N", help="only print the first N faults of this seed")
    options = parser.parse_args()
    seed = random.randrange(1, 10000) if options.seed is None else options.seed
    scene = Scene(os.environ["PHOENIX_INVENTORY"], os.environ["PHOENIX_URL"].rstrip("/"))
    drawn = run.plan(scene, seed, options.kind, options.plan)
    if options.plan:
        print("\n".join(f"{step.number:3} {step.kind:<20} {step.host}" for step in drawn.steps))
        print("\n".join(f"left out: {kind}: {why}" for kind, why in drawn.left_out.items()))
        return 0
    signal.signal(signal.SIGTERM, interrupted)
    print(f"soak: seed {seed}, {options.minutes:g} minutes", flush=True)
    # It would react to the load.
    with still(scene.inventory):
        record = run.run(scene, drawn, options.minutes * 60, lambda text: print(text, flush=True))
        record.read_p99_limit_s = options.p99
        found = report.write(record, FOLDER)
    print("\n".join(["soak: good" if not found["wrong"] else "soak: not good", *found["wrong"]]), flush=True)
    done = plays.run(scene.inventory, "verify")
    print(plays.excerpt(done.stdout) if done.returncode else "The fleet is whole.", file=sys.stderr)
    return 1 if found["wrong"] else done.returncode


if __name__ == "__main__":
    sys.exit(main())
