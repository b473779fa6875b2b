"""Brings the replica set's own configuration to the wanted one. Run on the primary.

Standard input, JSON: port, user, password, check (bool), members (list of {host: "address:port", priority, votes}),
settings (of replSetConfig, for example electionTimeoutMillis).
Prints one `changed: ...` line for each step. Exit status 1 and a message: the server refused a step; the steps before
it hold, and the next run goes on from there.
"""

import copy
import json
import sys


def plan(config, members, settings):
    """The (what, configuration) steps from config to the wanted one.

    The server lets a reconfiguration add, remove or change the vote of one voting member at a time, so each is a step
    of its own: additions first, so that the set is never smaller than it has to be. Priorities and settings come last.
    """
    steps = []
    config = copy.deepcopy(config)

    def step(what):
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


def main():
    import pymongo  # noqa: PLC0415 (the plan is tested where there is no driver)
    from pymongo.errors import PyMongoError  # noqa: PLC0415

    wanted = json.load(sys.stdin)
    client = pymongo.MongoClient(
        "127.0.0.1",
        wanted["port"],
        username=wanted["user"],
        password=wanted["password"],
        directConnection=True,
        serverSelectionTimeoutMS=10000,
    )
    config = client.admin.command("replSetGetConfig")["config"]
    for what, step in plan(config, wanted["members"], wanted["settings"]):
        print(f"changed: {what}", flush=True)
        if wanted["check"]:
            continue
        step["version"] = client.admin.command("replSetGetConfig")["config"]["version"] + 1
        try:
            # Comes back when a majority has the new configuration.
            client.admin.command("replSetReconfig", step, maxTimeMS=60000)
        except PyMongoError as error:
            return f"{what}: {error}"
    return 0


if __name__ == "__main__":
    sys.exit(main())
