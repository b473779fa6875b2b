"""phoenixctl capacity: why it is what it is, and a hold.

  phoenixctl capacity explain    in one sentence, and what would change it
  phoenixctl capacity hold --until TIME [--reason TEXT]
                                 the autoscaler changes nothing until then: 90m, 2h, 3d, 18:00, 2026-12-01T18:00
  phoenixctl capacity release    ends the hold
Exit status: 0 done; 1 not known or not written; 64 the time is not valid.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import sys
import time
from datetime import datetime
from pathlib import Path

from phoenix.state import hold
from phoenix.state.lock import FOLDER

STATUS = Path("/var/lib/phoenix/autoscaler/status.json")
STALE_SECONDS = 10.0
USAGE = 64  # EX_USAGE


def explain(path: Path, now: float) -> str:
    """What the daemon last said. Raises ValueError when it does not say anything."""
    try:
        status = json.loads(path.read_text(encoding="utf-8"))
        text, age = str(status["explanation"]), now - float(status["written"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} can't be read ({error}): run this on control, and see systemctl status phoenix-autoscaler"
        ) from error
    if age > STALE_SECONDS:
        return f"{text} This was {age:.0f} s ago: see systemctl status phoenix-autoscaler."
    return text


def main(arguments: list[str], folder: Path = FOLDER, status: Path = STATUS) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("explain")
    holding = verbs.add_parser("hold")
    holding.add_argument("--until", required=True)
    holding.add_argument("--reason", default="")
    verbs.add_parser("release")
    options = parser.parse_args(arguments)
    try:
        if options.verb == "explain":
            print(explain(status, time.time()))
        elif options.verb == "release":
            hold.end(folder)
            print("The autoscaler decides again.")
        else:
            try:
                until = hold.moment(options.until, datetime.now().astimezone())
            except ValueError as error:
                print(f"--until: {error}", file=sys.stderr)
                return USAGE
            made = hold.Hold(until.timestamp(), os.environ.get("SUDO_USER") or getpass.getuser(), options.reason)
            hold.begin(made, folder)
            print(f"The capacity is {made.text()}.")
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0
