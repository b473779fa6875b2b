"""The fleet's desired state, on control: the one reader and writer of its records.

  phoenixctl state show [--json]                        what is recorded; `lost` names what is missing or damaged
  phoenixctl state record capacity|release|configuration VALUE [NAME VALUE]... [--if-lost]
  phoenixctl state drain [--reason TEXT] [--token T --lease SECONDS] [--deploy N --phase NAME]
                      [--too SERVER... --reason-too TEXT] [SERVER]...
                                                        exactly these servers (ADDRESS:PORT) are out of rotation
  phoenixctl state away [--reason TEXT] HOST...         these hosts missed a change; brought up to date once they answer
  phoenixctl state back HOST...                         these are up to date again
  phoenixctl state maintenance on|off                   whether load balancers answer 503 (playbooks/maintenance.yml)

`drain` prints what is out of rotation as JSON. With a token it renews the fleet's lock first, so that a play which lost
the lock changes nothing any more.
Exit status: 0 done; 1 a record could not be read or written; 64 the value is not valid; 76 the lock is lost.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from phoenix.common import files
from phoenix.provider import demand, published
from phoenix.state import away, deploys, lock

FOLDER = lock.FOLDER
MOST = 1_000_000
USAGE = 64  # EX_USAGE
RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
CONFIGURATION = re.compile(r"[0-9a-f]{12}")
NOTHING: Mapping[str, str] = MappingProxyType({})
SERVER = re.compile(r"(?:[0-9.]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")


class Corrupt(ValueError):
    """An invalid record; the text names file and content."""


def capacity(text: str) -> int:
    """The number of ordinary instances that a text stands for. Raises ValueError."""
    digits = text.strip()
    if not digits.isascii() or not digits.isdigit() or len(digits) > 7 or not 1 <= int(digits) <= MOST:
        raise ValueError(f"{text[:40]!r} instead of a number of instances from 1 to {MOST}")
    return int(digits)


def release(text: str) -> str:
    """The release that a text names. Raises ValueError."""
    name = text.strip()
    if not RELEASE.fullmatch(name):
        raise ValueError(f"{text[:40]!r} instead of the name of a release (letters, digits and ._+-)")
    return name


def configuration(text: str) -> dict[str, str]:
    """The accepted configuration of each application host, from JSON. Raises ValueError."""
    found = json.loads(text)
    if not isinstance(found, dict) or not all(CONFIGURATION.fullmatch(str(name)) for name in found.values()):
        raise ValueError(f'{text[:40]!r} instead of {{"HOST": "name of a configuration"}}')
    return {str(host): str(name) for host, name in sorted(found.items())}


def drained(text: str) -> dict[str, str]:
    """Servers out of rotation with the reasons, from JSON. Raises ValueError."""
    found = json.loads(text)
    if not isinstance(found, dict) or not all(SERVER.fullmatch(str(name)) for name in found):
        raise ValueError(f'{text[:40]!r} instead of {{"ADDRESS:PORT": "reason"}}')
    return {str(name): str(reason) for name, reason in found.items()}


def _text(folder: Path, name: str) -> str | None:
    try:
        return (folder / name).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None


def read_capacity(folder: Path = FOLDER) -> int | None:
    """The recorded capacity; None when none is recorded. Raises Corrupt, or OSError when it can't be read."""
    text = _text(folder, "capacity")
    try:
        return None if text is None else capacity(text)
    except ValueError as error:
        raise Corrupt(f"{folder / 'capacity'} holds {error}") from error


def read_release(folder: Path = FOLDER) -> str | None:
    """The recorded release; None when none is recorded. Raises Corrupt, or OSError when it can't be read."""
    text = _text(folder, "release")
    try:
        return None if text is None else release(text)
    except ValueError as error:
        raise Corrupt(f"{folder / 'release'} holds {error}") from error


def read_configuration(folder: Path = FOLDER) -> dict[str, str] | None:
    """The recorded configurations; None when none is recorded. Raises Corrupt, or OSError when it can't be read."""
    text = _text(folder, "configuration")
    try:
        return None if text is None else configuration(text)
    except ValueError as error:
        raise Corrupt(f"{folder / 'configuration'} holds {error}") from error


def read_drained(folder: Path = FOLDER) -> dict[str, str]:
    """Servers out of rotation with the reasons. Raises Corrupt, or OSError when they can't be read."""
    text = _text(folder, "drained.json")
    try:
        return {} if text is None else drained(text)
    except ValueError as error:
        raise Corrupt(
            f"{folder / 'drained.json'} holds {error}. Record the servers that have to stay out of rotation again: "
            "phoenixctl state drain --reason TEXT [ADDRESS:PORT]..."
        ) from error


def read_maintenance(folder: Path = FOLDER) -> bool:
    """Whether maintenance is recorded; its record is there or not."""
    return (folder / "maintenance").exists()


def read_demand() -> list[dict[str, Any]]:
    """The hosts on demand that plays see. Raises Corrupt, or OSError when they can't be read."""
    try:
        return published.with_keys()
    except demand.Corrupt as error:
        raise Corrupt(str(error)) from error


def read(folder: Path = FOLDER) -> dict[str, Any]:
    """The state as `state show --json` prints it. Raises Corrupt (drained.json only) and OSError.

    capacity, release and configuration are None where the record is missing or damaged; `lost` then gives the reason.
    """
    state: dict[str, Any] = {"drained": read_drained(folder), "maintenance": read_maintenance(folder), "lost": {}}
    state["demand"] = read_demand()
    state["away"] = away.read(folder)
    readers = {"capacity": read_capacity, "release": read_release, "configuration": read_configuration}
    for name, reader in readers.items():
        state[name] = None
        try:
            state[name] = reader(folder)
            if state[name] is None:
                state["lost"][name] = f"{folder / name} is not there"
        except Corrupt as error:
            state["lost"][name] = str(error)
    return state


def _parse(name: str, text: str) -> Any:
    """Raises ValueError."""
    parsers: dict[str, Callable[[str], Any]] = {
        "capacity": capacity,
        "release": release,
        "configuration": configuration,
    }
    if name not in parsers:
        raise ValueError(f"{name!r} is not one of {', '.join(parsers)}")
    return parsers[name](text)


def record(name: str, value: str, folder: Path = FOLDER, *, if_lost: bool = False) -> bool:
    """Record capacity, release or configuration; whether that changed anything. A damaged record is moved aside.

    Raises:
        ValueError: the value is not valid.
        OSError: it could not be written.
    """
    parsed = _parse(name, value)
    with lock.guarded(folder):
        state = read(folder)
        if state[name] is not None and (if_lost or state[name] == parsed):
            return False
        path = folder / name
        if state[name] is None and path.exists():
            path.replace(folder / f"{name}.corrupt")
        files.replace(path, f"{json.dumps(parsed) if name == 'configuration' else parsed}\n", durable=True)
        return True


def maintain(on: bool, folder: Path = FOLDER) -> bool:
    """Record whether there is maintenance; whether that changed anything. Raises OSError."""
    with lock.guarded(folder):
        if read_maintenance(folder) is on:
            return False
        if on:
            files.replace(folder / "maintenance", "on\n", durable=True)
        else:
            (folder / "maintenance").unlink()
        return True


def drain(
    servers: Iterable[str], reason: str, folder: Path = FOLDER, others: Mapping[str, str] = NOTHING
) -> dict[str, str]:
    """Record exactly these servers as out of rotation, and others with their reasons; those that are keep theirs.

    Raises:
        ValueError: one is not ADDRESS:PORT.
        OSError: it could not be written.
    """
    with lock.guarded(folder):
        before: dict[str, str] | None = None
        with contextlib.suppress(Corrupt):  # this is how it is repaired
            before = read_drained(folder)
        given = {**others, **dict.fromkeys(servers, reason)}
        wanted = {server: (before or {}).get(server, why) for server, why in given.items()}
        text = json.dumps(wanted, indent=1, sort_keys=True) + "\n"
        if drained(text) != before:
            files.replace(folder / "drained.json", text, durable=True)
        return wanted


def describe(state: Mapping[str, Any]) -> str:
    """The state in lines for people."""
    lines = [f"{name}: {state[name] or state['lost'][name]}" for name in ("release", "capacity")]
    by_name: dict[str, list[str]] = {}
    for host, name in (state["configuration"] or {}).items():
        by_name.setdefault(name, []).append(host)
    lines += [f"configuration: {name} on {', '.join(hosts)}" for name, hosts in by_name.items()]
    lines += [f"configuration: {state['lost']['configuration']}"] if "configuration" in state["lost"] else []
    lines += [f"out of rotation: {server}: {why}" for server, why in state["drained"].items()]
    lines += [f"missed a change: {host}: {why}" for host, why in state["away"].items()]
    lines += [f"host on demand: {host['name']} ({host['address']}), {host['state']}" for host in state["demand"]]
    lines += ["maintenance: on"] if state["maintenance"] else []
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the records are (default: %(default)s)")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("show").add_argument("--json", action="store_true")
    verb = verbs.add_parser("record")
    verb.add_argument("values", nargs="+", metavar="NAME VALUE", help="of capacity, release and configuration")
    verb.add_argument("--if-lost", action="store_true", help="only where the record is missing or damaged")
    verbs.add_parser("maintenance").add_argument("value", choices=("on", "off"))
    verb = verbs.add_parser("away")
    verb.add_argument("hosts", nargs="+", metavar="HOST")
    verb.add_argument("--reason", default="by hand")
    verbs.add_parser("back").add_argument("hosts", nargs="+", metavar="HOST")
    verb = verbs.add_parser("drain")
    verb.add_argument("servers", nargs="*", metavar="ADDRESS:PORT")
    verb.add_argument("--reason", default="by hand")
    verb.add_argument("--token", default="", help="the fleet's lock, which is renewed")
    verb.add_argument("--lease", type=float, default=300)
    verb.add_argument("--too", action="append", default=[], metavar="ADDRESS:PORT", help="for another reason")
    verb.add_argument("--reason-too", default="", metavar="TEXT")
    verb.add_argument("--deploy", type=int, default=0, metavar="N")
    verb.add_argument("--phase", default="")
    return parser


def _run(options: argparse.Namespace) -> int:
    if options.verb == "show":
        state = read(options.folder)
        print(json.dumps(state) if options.json else describe(state))
    elif options.verb == "record":
        names, values = options.values[::2], options.values[1::2]
        if len(names) != len(values):
            raise ValueError(f"{names[-1]} has no value; give names and values in turn")
        # All are valid, or none is recorded.
        for name, value in zip(names, values):
            _parse(name, value)
        changed = [record(*one, options.folder, if_lost=options.if_lost) for one in zip(names, values)]
        print(json.dumps({"changed": any(changed)}))
    elif options.verb == "maintenance":
        print(json.dumps({"changed": maintain(options.value == "on", options.folder)}))
    elif options.verb == "away":
        away.add(options.hosts, options.reason, options.folder)
    elif options.verb == "back":
        print(json.dumps({"changed": bool(away.remove(options.hosts, options.folder))}))
    else:
        if options.token and not lock.renew(options.folder, options.token, options.lease):
            print(lock.lost(options.folder), file=sys.stderr)
            return lock.LOST
        if options.deploy:
            deploys.mark(options.deploy, options.phase, time.time())
        others = dict.fromkeys(options.too, options.reason_too)
        print(json.dumps(drain(options.servers, options.reason, options.folder, others)))
    return 0


def main(arguments: list[str]) -> int:
    try:
        return _run(_parser().parse_args(arguments))
    except (Corrupt, OSError) as error:
        print(f"The fleet's state can't be used: {error}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"Not recorded: {error}", file=sys.stderr)
        return USAGE
