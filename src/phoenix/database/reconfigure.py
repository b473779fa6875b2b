"""Reconfiguration of the replica set, for the primary."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from phoenix.common import endpoint
from phoenix.database import replica_set

TIMEOUT_MS = 60000
NONE: Mapping[str, str] = {}


class Refused(Exception):
    """The server refused a step; the steps before it are in effect, and the next run continues from there."""


def plan(
    current: Mapping[str, Any],
    members: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    former: Mapping[str, str] = NONE,
) -> list[tuple[str, dict[str, Any]]]:
    """Return the (description, configuration) steps from the current configuration to the wanted one.

    members: [{host: "name:port", priority, votes}]; settings: of replSetConfig, for example electionTimeoutMillis;
    former: by its host, what the set may know a member as from before, "address:port".

    A reconfiguration may add, remove or change the vote of only one voting member, so each such change is a step of its
    own: additions first, so that the set is never smaller than necessary. Priorities and settings come last. A member
    that gets another name stays the same one, and goes on.
    """
    steps: list[tuple[str, dict[str, Any]]] = []
    config: dict[str, Any] = copy.deepcopy(dict(current))

    def step(what: str) -> None:
        steps.append((what, copy.deepcopy(config)))

    wanted = {member["host"]: member for member in members}
    names = {before: host for host, before in former.items()}
    for member in [one for one in config["members"] if one["host"] in names]:
        before, member["host"] = member["host"], names[member["host"]]
        step(f"{before}: known as {member['host']}")
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
    client: Any,
    members: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    former: Mapping[str, str] = NONE,
    *,
    check: bool = False,
) -> list[str]:
    """Take the steps to the wanted configuration, or with check only plan them; return their descriptions.

    Raises:
        Refused: the server refused a step; the error names it, with the reason.
    """
    from pymongo.errors import PyMongoError  # noqa: PLC0415 (the plan is tested where there is no driver)

    done = []
    config = client.admin.command("replSetGetConfig")["config"]
    for what, step in plan(config, members, settings, former):
        if not check:
            step["version"] = client.admin.command("replSetGetConfig")["config"]["version"] + 1
            try:
                # Returns when a majority has the new configuration.
                client.admin.command("replSetReconfig", step, maxTimeMS=TIMEOUT_MS)
            except PyMongoError as error:
                raise Refused(f"{what}: {error}") from error
        done.append(what)
    return done


def shrunken(config: Mapping[str, Any], roles: Mapping[str, str], lost: Sequence[str]) -> dict[str, Any]:
    """The configuration without the lost members, which the others take without a majority.

    roles: by member, as replica_set.role has them; lost: members, as the configuration names them.

    Raises:
        Refused: the set has a primary or could elect one, or a lost member could go on in the former set.
    """
    members = [member["host"] for member in config["members"]]
    left = [member for member in config["members"] if member["host"] not in lost]
    primary = [host for host in members if roles[host] == "PRIMARY"]
    if primary:
        raise Refused(f"{primary[0]} is primary, so the set serves: replace members one by one (replace-host.yml)")
    if unknown := [host for host in lost if host not in members]:
        raise Refused(f"{', '.join(unknown)} is no member of the set, which has {', '.join(members)}")
    if answering := [host for host in lost if roles[host] != "silent"]:
        raise Refused(
            f"{', '.join(answering)} answers, and would go on in the former set, beside this one: leave it out of "
            "those that are lost, or destroy it"
        )
    if silent := [member["host"] for member in left if roles[member["host"]] == "silent"]:
        raise Refused(f"{', '.join(silent)} does not answer either: bring it back, or count it among the lost")
    votes = sum(member["votes"] for member in left)
    if 2 * votes > sum(member["votes"] for member in config["members"]):
        raise Refused(
            f"{', '.join(member['host'] for member in left)} are a majority, which elects a primary by itself: see "
            "/var/log/mongodb/mongod.log there"
        )
    if not votes:
        left = [{**member, "votes": 1, "priority": 1} for member in left]
    return {**config, "members": left, "version": config["version"] + 1}


def shrink(client: Any, lost: Sequence[str], ca: str = "", *, check: bool = False) -> None:
    """Have the members that are left serve alone. client: of one of them; ca: by which the others are asked by TLS.

    What the lost ones alone had acknowledged is gone. Raises Refused as shrunken does, and where the server refuses.
    """
    from pymongo.errors import PyMongoError  # noqa: PLC0415

    config = client.admin.command("replSetGetConfig")["config"]
    roles = {member["host"]: replica_set.role(*endpoint.parts(member["host"]), ca) for member in config["members"]}
    wanted = shrunken(config, roles, lost)
    if not check:
        try:
            client.admin.command("replSetReconfig", wanted, force=True)
        except PyMongoError as error:
            raise Refused(f"the server refused: {error}") from error
