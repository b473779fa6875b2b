"""Plays that are killed at seeded moments, under GET and POST load: nothing fails, and the next run repairs the fleet.

`make cuts`, not `make test`, in which a reboot of control cuts a deploy (test_deploy.py): a cut takes 70 to 200 s.

PHOENIX_CUTS      number of cuts (default none; 12 for the whole proof)
PHOENIX_CUT_SEED  seed of the moments and of what is cut (default 1)
"""

from __future__ import annotations

import json
import os
import random
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lab import releases
from tests.harness import programs
from tests.harness.autoscaling import capacity_of, consistent
from tests.harness.deploys import configurations_of, last, play, releases_of, succeed
from tests.harness.hosts import Hosts, output_of
from tests.harness.load import assert_none_failed, load
from tests.harness.waiting import wait_for

CUTS = int(os.environ.get("PHOENIX_CUTS", "0"))
SEED = int(os.environ.get("PHOENIX_CUT_SEED", "1"))
# Every third cut counts from the start of the play, the others from when it holds the lock and changes the fleet. The
# longest comes after the end of a play.
LONGEST_S = 40


def holds(control: Any, running: Any) -> bool:
    return "held by" in output_of(control, programs.LOCK_SHOW) or running.poll() is not None


def ended_by_itself(control: Any) -> bool:
    return bool(last(control)["result"])


def begin(what: str, inventory: str, number: int, folder: Path) -> Any:
    if what == "deploy":
        source = releases.make("good", folder / str(number), f"{time.strftime('%H%M%S')}{number}")
        return play(inventory, "deploy", phoenix_source=str(source))
    if what == "configuration":
        environment = {"CUT": f"{time.time()}"}
        return play(inventory, "site", "--tags", "phoenix,nginx", phoenix_environment=environment)
    return play(inventory, "scale", phoenix_capacity=4, scale_lock_wait=60)


@pytest.mark.skipif(not CUTS, reason="PHOENIX_CUTS is not set")
def test_plays_that_are_cut_anywhere(
    client: Any, base_url: str, inventory: str, application_hosts: Hosts, control: Any, tmp_path: Path
) -> None:
    (start,) = releases_of(application_hosts)
    (configuration,) = configurations_of(application_hosts)
    draw = random.Random(SEED)
    longest = CUTS * 180 + 120
    with (
        load(client, base_url, 100, longest=longest) as got,
        load(client, base_url, 20, method="POST", longest=longest) as posted,
    ):
        for number in range(CUTS):
            what = draw.choice(["deploy", "configuration", "scale"] if number else ["configuration"])
            after = draw.uniform(1, LONGEST_S if what != "scale" else 8)
            running = begin(what, inventory, number, tmp_path)
            if number % 3 != 2:
                wait_for(partial(holds, control, running), 300, "the play holds the lock, or has ended")
            time.sleep(after)
            ended = running.poll()
            running.kill()
            running.communicate(timeout=60)
            print(
                f"cut {number}: {what} after {after:.1f} s"
                + (f", which had ended ({ended})" if ended is not None else "")
            )
            # Its lease alone would take a minute.
            wait_for(lambda: output_of(control, programs.LOCK_SHOW) == "free", 30, "the lock of the dead play is free")
            # Every second one nobody repairs: the timer phoenix-reconcile does, where a roll-out was cut.
            if number % 2:
                wait_for(partial(ended_by_itself, control), 600, "what was cut has a result")
                assert releases_of(application_hosts) == {
                    json.loads(control.check_output(programs.STATE_SHOW))["release"]
                }
            succeed(play(inventory, "scale", phoenix_capacity=2, scale_lock_wait=300))
            # A whole deploy stays, too.
            if number % 2 == 0 or releases_of(application_hosts) != {start}:
                succeed(play(inventory, "rollback", phoenix_version=start, deploy_lock_wait=300))
            # A whole configuration roll is accepted: then it is put back as an operator does.
            if configurations_of(application_hosts) != {configuration}:
                succeed(play(inventory, "site", "--tags", "phoenix,nginx"))
            assert releases_of(application_hosts) == {start}
            assert configurations_of(application_hosts) == {configuration}
            recorded = json.loads(control.check_output(programs.STATE_SHOW))
            assert (recorded["release"], recorded["drained"]) == (start, {})
            assert set(recorded["configuration"].values()) == {configuration}
            assert capacity_of(inventory) == 2 and consistent(inventory)
    assert_none_failed(got)
    assert_none_failed(posted)
