"""Reconfiguration of the replica set, for the primary."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

TIMEOUT_MS = 60000


class Refused(Exception):
    """The server refused a step; the steps before it are in effect, and the next run continues from there."""


def plan(
    current: Mapping[str, Any], members: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]
) -> list[tuple[str, dict[str, Any]]]:
    """Return the (description, configuration) steps from the current configuration to the wanted one.

    members: [{host: "address:port", priority, votes}]; settings: of replSetConfig, for example electionTimeoutMillis.

    A reconfiguration may add, remove or change the vote of only one voting member, so each such change is a step of its
    own: additions first, so that the set is never smaller than necessary. Priorities and settings come last.
    """
    steps: list[tuple[str, dict[str, Any]]] = []
    config: dict[str, Any] = copy.deepcopy(dict(current))

    def step(what: str) -> None:
        steps.append((what, copy.deepcopy(config)))

    wanted = {member["host"]: member for member in members}
    for host, member in wanted.items():
        if host not in [m["host"] for m in config["members"]]:
            number = max(m["_id"] for m in config["members"]) + 1
            config["members"].append({"_id": number, **member})
            step(f"add {host}")
    for host in [m["host"] for m in config["members"] if m["host"] not in wanted]:
        config["members"] = [m for m in config["members"] if m["host"] != host]
        step(f"remove {host}")
    for member in config["members"]:
        votes = wanted[member["host"]]["votes"]
        if member["votes"] != votes:
            # A member without a vote can't have a priority.
            member.update(votes=votes, priority=wanted[member["host"]]["priority"] if votes else 0)
            step(f"{member['host']}: votes {votes}")
    rest = []
    for member in config["members"]:
        priority = wanted[member["host"]]["priority"]
        if member["priority"] != priority:
            member["priority"] = priority
            rest.append(f"{member['host']}: priority {priority:g}")
    for name, value in settings.items():
        if config["settings"].get(name) != value:
            config["settings"][name] = value
            rest.append(f"{name} {value}")
    if rest:
        step(", ".join(rest))
    return steps


def reconfigure(
    client: Any, members: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], *, check: bool = False
) -> list[str]:
    """Take the steps to the wanted configuration, or with check only plan them; return their descriptions.

    Raises:
        Refused: the server refused a step; the error names it, with the reason.
    """
    from pymongo.errors import PyMongoError  # noqa: PLC0415 (the plan is tested where there is no driver)

    done = []
    config = client.admin.command("replSetGetConfig")["config"]
    for what, step in plan(config, members, settings):
        if not check:
            step["version"] = client.admin.command("replSetGetConfig")["config"]["version"] + 1
            try:
                # Returns when a majority has the new configuration.
                client.admin.command("replSetReconfig", step, maxTimeMS=TIMEOUT_MS)
            except PyMongoError as error:
                raise Refused(f"{what}: {error}") from error
        done.append(what)
    return done
