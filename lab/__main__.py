"""Command line of the lab: `python -m lab up|down|url|exists`, for the profile in LAB_PROFILE."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import docker
from docker.errors import DockerException

from lab import archives, fleet, image

TOP = Path(__file__).resolve().parents[1]
CACHE = TOP / ".cache"
STATE = TOP / ".lab"
# Profiles whose inventory has another name than they.
PROFILES = {"default": "lab"}


def _say(message: str) -> None:
    print(f"lab: {message}", file=sys.stderr, flush=True)


def _inventory() -> Path:
    profile = os.environ.get("LAB_PROFILE", "default")
    inventory = TOP / "inventories" / PROFILES.get(profile, profile)
    if not (inventory / "hosts.yml").is_file():
        known = sorted(
            p.parent.name for p in (TOP / "inventories").glob("*/hosts.yml") if "lab_network" in p.read_text()
        )
        raise RuntimeError(f"LAB_PROFILE is {profile!r}: known are default, {', '.join(known)}")
    return inventory


def main() -> int:
    """Run one command and return its exit status: 0, or 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    parser.add_argument(
        "command",
        choices=["up", "down", "url", "inventory", "images", "archives", "exists"],
        help="up: archives, images and hosts; down: remove the hosts; url: the load balancer's address; "
        "inventory: the profile's inventory; exists: status 0 when a fleet is there",
    )
    command = parser.parse_args().command
    try:
        if command == "url":
            print(fleet.read(_inventory()).url)
        elif command == "inventory":
            print(_inventory().relative_to(TOP))
        elif command == "archives":
            for component in archives.COMPONENTS:
                archives.fetch(component, CACHE / "archives", _say)
        else:
            client = docker.from_env()
            if command == "images":
                for suite in ("bookworm", "trixie"):
                    image.ensure(client, suite, CACHE, _say)
            elif command == "down":
                fleet.down(client, STATE, _say)
            elif command == "exists":
                return 0 if fleet.running(client) else 1
            else:
                for component in archives.COMPONENTS:
                    archives.fetch(component, CACHE / "archives", _say)
                fleet.up(client, fleet.read(_inventory()), STATE, CACHE, _say)
    except (RuntimeError, DockerException) as error:
        _say(f"{command} failed: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
