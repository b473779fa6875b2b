"""Command line of the lab: `python -m lab up|down|url|…`, for the profile in LAB_PROFILE."""

from __future__ import annotations

import argparse
import getpass
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import docker
from docker.errors import DockerException

from lab import archives, containers, engine, fleet, image, proxy

TOP = Path(__file__).resolve().parents[1]
CACHE = TOP / ".cache"
STATE = TOP / ".lab"
ENGINE = STATE / "engine.pid"
# Profile -> folder of its inventory. These are the lab's own: secrets generated into them are removed with the fleet.
PROFILES = {
    "default": "lab",
    "single": "single",
    "mongodb-5.0": "mongodb-5.0",
    "demand": "demand",
    "networks": "networks",
}


def _report(message: str) -> None:
    print(f"lab: {message}", file=sys.stderr, flush=True)


def _inventory() -> Path:
    profile = os.environ.get("LAB_PROFILE", "default")
    if profile not in PROFILES:
        raise RuntimeError(f"LAB_PROFILE is {profile!r}: set it to one of {', '.join(PROFILES)}")
    return TOP / "inventories" / PROFILES[profile]


def generated(top: Path) -> list[Path]:
    """List the folders that a fleet generates in a checkout: its keys, and the secrets of the lab's inventories."""
    return [top / ".lab", *(top / "inventories" / name / ".secrets" for name in PROFILES.values())]


def _engine() -> docker.DockerClient:
    try:
        return docker.from_env()
    except DockerException as error:
        user = getpass.getuser()
        if "Permission denied" in str(error):
            raise RuntimeError(
                f"{user} is not allowed to use the Docker engine: put lab/with-docker before the command, "
                f"or run 'sudo adduser {user} docker' and log in again"
            ) from error
        raise RuntimeError(f"the Docker engine does not answer ({error}): start it (lab/bootstrap)") from error


def _fetch_archives(components: Iterable[archives.Component] = archives.COMPONENTS) -> None:
    for component in components:
        archives.fetch(component, CACHE / "archives", _report)


def _up(client: docker.DockerClient) -> None:
    containers.refuse_others(client, _inventory().name)
    _fetch_archives()
    ours = fleet.read(_inventory())
    containers.up(client, ours, STATE, CACHE, _report)
    if ours.engine_port:
        engine.start(ENGINE, *_offered(ours))


def _prepare(client: docker.DockerClient) -> None:
    ours = fleet.read(_inventory())
    if not ours.demand_image:
        return
    source = ours.members("app_standby")[-1]
    _report(f"making {ours.demand_image} from {source.name}")
    image.prepare(client.containers.get(source.container), ours.demand_image)


def _down(client: docker.DockerClient) -> None:
    engine.stop(ENGINE)
    containers.down(client, generated(TOP), _report)


def _images(client: docker.DockerClient) -> None:
    for suite in ("bookworm", "trixie"):
        image.ensure(client, suite, CACHE, _report)


def _offered(ours: fleet.Fleet) -> tuple[str, int]:
    """The address and port at which control finds the provider."""
    return ours.gateway(ours.members("control")[0]), ours.engine_port


def _offer() -> None:
    ours = fleet.read(_inventory())
    engine.serve(*_offered(ours), {host.address for host in ours.members("control")})


ALONE: Mapping[str, Callable[[], object]] = {
    "url": lambda: print(fleet.read(_inventory()).url),
    "inventory": lambda: print(_inventory().relative_to(TOP)),
    "archives": lambda: _fetch_archives((*archives.COMPONENTS, *archives.FOR_APPLICATIONS, archives.NEXT_MONGODB)),
    "engine": _offer,
}
WITH_ENGINE: Mapping[str, Callable[[docker.DockerClient], object]] = {
    "up": _up,
    "down": _down,
    "clean": lambda client: image.remove(client, CACHE, _report),
    "images": _images,
    "prepare": _prepare,
    "apt-conf": lambda client: print(proxy.apt_conf(containers.default_gateway(client)), end=""),
}


def _run(command: str) -> int:
    if command in ALONE:
        ALONE[command]()
        return 0
    client = _engine()
    if command == "exists":
        containers.refuse_others(client, _inventory().name)
        return 0 if containers.hosts(client) else 1
    WITH_ENGINE[command](client)
    return 0


def main() -> int:
    """Run one command and return its exit status: 0, 1 for the answer "no", or 2 with the reason on stderr."""
    parser = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    parser.add_argument(
        "command",
        choices=[*ALONE, *WITH_ENGINE, "exists"],
        help="up: archives, images and hosts; down: remove this checkout's hosts; clean: remove images that no "
        "container uses; url: the load balancer's address; inventory: the profile's inventory; apt-conf: configuration "
        "of apt in containers on Docker's default network; exists: status 0 when this checkout has a fleet, 1 when "
        "not; engine: offer the provider to control; prepare: make the image of the profile's hosts on demand",
    )
    command = parser.parse_args().command
    try:
        return _run(command)
    except (RuntimeError, OSError, subprocess.SubprocessError, DockerException) as error:
        _report(f"{command} failed: {error}")
        return 2


if __name__ == "__main__":
    sys.exit(main())
