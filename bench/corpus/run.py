"""The run: each application follows its predecessor on the fleet, and is used under load.

PHOENIX_CORPUS  names of applications, with commas between them (default: all that the fleet's MongoDB serves)
"""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.applications import done
from bench.corpus.applications import CORPUS, WRITABLE, Application
from bench.corpus.servers import ADDRESS, servers
from bench.fleet import Fleet, Row
from tests.harness.corpus import USES, Client
from tests.harness.deploys import releases_of
from tests.harness.load import load

RATE = 30  # requests a second: three instances' worth, so that a scale-in to two under it is a busy one

# One configuration for all, as an inventory would give it. The application's own variables are not secrets of anybody.
SETTINGS: dict[str, Any] = {
    "phoenix_release_command": "npm run migrate --if-present",
    "phoenix_writable_paths": [WRITABLE],
    "phoenix_environment": {"SESSION_SECRET": secrets.token_hex(16)},
    "nginx_paths": [{"path": "/files", "body_max": "64m"}],
    "nginx_affinity": "cookie",
    "release_build_packages": ["make", "g++", "python3"],
    # What comes is another application, which may take longer than the one before it.
    "deploy_canary_latency_allowance": 2.0,
    # Headers of Node.js, which the lab's archive lacks.
    "release_environment": {"npm_config_disturl": f"{ADDRESS}/node"},
}
TAGS = ("--tags", "toolkit,phoenix,nginx,release")


def chosen(names: str, mongodb: str) -> list[Application]:
    """The applications of these names, by default all that this version of MongoDB serves.

    Raises:
        ValueError: one is unknown, or needs an earlier MongoDB.
    """
    wanted = set(filter(None, names.split(",")))
    if unknown := wanted - {one.name for one in CORPUS}:
        raise ValueError(
            f"PHOENIX_CORPUS={names}: no application is named {', '.join(sorted(unknown))}; there are: "
            f"{', '.join(one.name for one in CORPUS)}"
        )
    major, minor = (int(part) for part in mongodb.split(".")[:2])
    served = [one for one in CORPUS if one.newest_mongodb is None or (major, minor) <= one.newest_mongodb]
    if refused := wanted - {one.name for one in served}:
        raise ValueError(
            f"PHOENIX_CORPUS={names}: the fleet's MongoDB is {mongodb}, too new for {', '.join(sorted(refused))}; "
            "make another fleet with `make up LAB_PROFILE=mongodb-5.0`"
        )
    return [one for one in served if not wanted or one.name in wanted]


def mongodb_of(fleet: Fleet) -> str:
    """The version that the fleet's members run."""
    member = next(iter(fleet.hosts("db").values()))
    version, _, _ = member.check_output("/opt/mongodb/current/bin/mongod --version").partition("\n")
    return str(version).removeprefix("db version v")


def measure(fleet: Fleet) -> list[Row]:
    applications = chosen(os.environ.get("PHOENIX_CORPUS", ""), mongodb_of(fleet))
    hosts = fleet.hosts("app")
    (before,) = releases_of(hosts)
    rows: list[Row] = []
    with servers(fleet), tempfile.TemporaryDirectory() as folder:
        try:
            done(fleet, "site", *TAGS, **SETTINGS)
            for one in applications:
                written = Path(folder, one.name)
                one.write(written)
                # The others' results are worth having without it.
                try:
                    rows += seen(fleet, one, written)
                except (AssertionError, OSError, ValueError) as error:
                    print(f"{one.name}: {error!r}", flush=True)
                    rows.append(Row(f"{one.name}: does not work", 1, "", None, str(error)[-200:]))
        finally:
            # With the settings that its plays were given, until the fleet's own ones are back.
            done(fleet, "deploy", phoenix_version=before, **SETTINGS)
            done(fleet, "site", *TAGS)
            done(fleet, "scale", phoenix_capacity=2)
            for host in hosts.values():
                host.run(f"rm -rf {WRITABLE}")
    return rows


def seen(fleet: Fleet, one: Application, folder: Path) -> list[Row]:
    """Roll it out over its predecessor, use it, kill an instance and scale in, each under load."""
    given = {**SETTINGS, **one.settings()}
    began = time.monotonic()
    with load(fleet.client(), fleet.url, RATE) as roll:
        done(fleet, "deploy", phoenix_source=str(folder), **given)
    USES[one.name](Client(fleet.url))
    with load(fleet.client(), fleet.url, RATE) as kill:
        fleet.hosts("app")["app1"].check_output("systemctl kill --signal=KILL phoenix@3000")
        time.sleep(5)
    done(fleet, "scale", phoenix_capacity=3, **given)
    with load(fleet.client(), fleet.url, RATE) as scale_in:
        done(fleet, "scale", phoenix_capacity=2, **given)
    USES[one.name](Client(fleet.url))
    note = f"needs {one.needs}; deployed, used before and after, {time.monotonic() - began:.0f} s"
    rows = [
        Row(f"{one.name}: failed in its {name}", result["failed"], "requests", None, f"of {result['sent']}")
        for name, result in (("roll-out", roll), ("kill", kill), ("scale-in", scale_in))
    ]
    return [*rows[:2], Row(rows[2].name, rows[2].value, rows[2].unit, None, f"{rows[2].note}; {note}")]
