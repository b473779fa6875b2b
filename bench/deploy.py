"""Duration of a deploy and a rollback under load, and their effect on clients."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from bench.fleet import Fleet, Row
from lab import releases
from tests.harness import plays
from tests.harness.deploys import PLAY_SECONDS, last, play, releases_of
from tests.harness.load import load

# Measured on the same lab with a tool that has no drain, no canary and no health gate, and restarts nothing.
BARE_DEPLOY_S, BARE_ROLLBACK_S = 9.0, 4.8


def measure(fleet: Fleet) -> list[Row]:
    application, control = fleet.hosts("app"), next(iter(fleet.hosts("control").values()))
    client = fleet.client()
    (before,) = releases_of(application)
    rows = []
    with tempfile.TemporaryDirectory() as folder, load(client, fleet.url) as result:
        source = releases.make("good", Path(folder, "good"), time.strftime("%H%M%S"))
        for name, variables, bare in (
            ("deploy", {"phoenix_source": str(source)}, BARE_DEPLOY_S),
            ("rollback", {"phoenix_version": before}, BARE_ROLLBACK_S),
        ):
            began = time.monotonic()
            running = play(fleet.inventory, name, **variables)
            output, _ = running.communicate(timeout=PLAY_SECONDS)
            if running.returncode:
                raise RuntimeError(f"{name} ended with {running.returncode}:\n{plays.excerpt(output)}")
            rows.append(Row(name, round(time.monotonic() - began, 1), "s", bare, "reference: no gates, no restarts"))
            rows.append(Row(f"{name}, its roll-out with a canary of 10 s", float(last(control)["seconds"]), "s"))
    rows.append(Row("failed at 200/s during both", float(result["failed"]), "requests"))
    rows.append(Row("slowest request meanwhile", float(result["max_s"]), "s"))
    return rows
