"""Processes besides the instances, and scheduled commands: errors of the settings, and what hosts get of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from phoenix.fleet import environment

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LONGEST_NAME = 30
# phoenix-NAME@N would be an instance of a unit of Phoenix's own.
RESERVED = ("backup", "backup-scratch", "ci-hook", "drill")
MOST = 64
# Seconds that one may take after SIGTERM, and seconds that a scheduled command may run.
STOP, RUN = 10, 3600
LONGEST_STOP = 3600
OPTIONS = {
    "phoenix_processes": ("command", "count", "memory", "environment", "stop_timeout"),
    "phoenix_schedules": ("command", "calendar", "timeout", "memory", "environment"),
}


def errors(processes: Any, schedules: Any) -> list[str]:
    """What is wrong with phoenix_processes and phoenix_schedules. No value of an environment is in the messages."""
    found: list[str] = []
    settings = {"phoenix_processes": processes, "phoenix_schedules": schedules}
    for variable, entries in settings.items():
        if not isinstance(entries, Mapping):
            found.append(f"{variable} is not a dictionary; give {{name: {{command: ...}}}}")
            continue
        for name, entry in entries.items():
            found += [f"{variable}: {name}: {message}" for message in _entry_errors(variable, name, entry)]
    if not found:
        found = [
            f"phoenix_schedules: {name}: a process of phoenix_processes has this name; give one of them another"
            for name in sorted({*processes} & {*schedules})
        ]
    return found


def _entry_errors(variable: str, name: Any, entry: Any) -> Iterator[str]:
    if not isinstance(name, str) or not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        yield f"not a name; give lower-case letters, digits and single hyphens, at most {LONGEST_NAME}"
    elif name in RESERVED:
        yield "the name of a unit of Phoenix's own; give another"
    if not isinstance(entry, Mapping):
        yield "not a dictionary; give at least a command"
        return
    for key in entry:
        if key not in OPTIONS[variable]:
            yield f"{key} is not an option; there are {', '.join(OPTIONS[variable])}"
    if not isinstance(entry.get("command"), str) or not entry["command"].strip():
        yield 'command is missing; give one such as "npm run worker" or "node worker.js"'
    if variable == "phoenix_processes":
        yield from _number(entry, "count", {"one": 1}.get(str(entry.get("count")), entry.get("count", 1)), MOST)
        yield from _number(entry, "stop_timeout", entry.get("stop_timeout", STOP), LONGEST_STOP)
    else:
        if not isinstance(entry.get("calendar"), str) or not entry["calendar"].strip():
            yield 'calendar is missing; give a time as systemd writes it, such as "*-*-* 03:00:00 UTC" or "hourly"'
        yield from _number(entry, "timeout", entry.get("timeout", RUN), 7 * 86400)
    if not re.fullmatch(r"[1-9]\d*[KMGT]?|infinity", str(entry.get("memory", "1M"))):
        yield f"memory = {entry['memory']!r} is not a size; give one such as 256M"
    variables = entry.get("environment", {})
    if not isinstance(variables, Mapping):
        yield "environment is not a dictionary; give {NAME: value}"
        return
    yield from (message.partition(": ")[2] for message in environment.errors(variables))


def _number(entry: Mapping[str, Any], option: str, value: Any, most: int) -> Iterator[str]:
    if isinstance(value, bool) or not re.fullmatch(r"\d+", str(value)) or not 1 <= int(value) <= most:
        also = " or `one`" if option == "count" else ""
        yield f"{option} = {entry[option]!r} is not a number from 1 to {most}{also}"


def files(
    processes: Mapping[str, Any],
    schedules: Mapping[str, Any],
    variables: Mapping[str, Any],
    database: str,
    memory: Any,
    header: str,
) -> dict[str, str]:
    """The files of a configuration that hold them: processes.json, and the environment of each; none without any.

    `variables`, `database` and `memory` are those of the instances, which an entry adds to.
    """
    entries = {**processes, **schedules}
    if not entries:
        return {}
    defined, found = {}, {}
    for name, entry in entries.items():
        limit = str(entry.get("memory", memory))
        own = environment.variables({**variables, **entry.get("environment", {})}, database, limit)
        found[f"environment.{name}"] = header + "\n" + environment.lines(own)
        defined[name] = {"command": entry["command"], "count": 1, "memory": limit}
        if name in schedules:
            defined[name] |= {"calendar": entry["calendar"], "timeout": int(entry.get("timeout", RUN))}
        else:
            count = entry.get("count", 1)
            defined[name] |= {
                "count": 1 if count == "one" else int(count),
                "stop_timeout": int(entry.get("stop_timeout", STOP)),
            }
    return {"processes.json": json.dumps(defined, indent=1, sort_keys=True) + "\n", **found}
