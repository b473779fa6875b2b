"""This host's instances of the application: phoenixctl instances VERB ...

Verbs that change something print one line of JSON: {"changed": [{"action", "port", "release" or "configuration"},
...]}, also when they fail (with --check: what would change). Exit status 1: an instance did not become healthy, or the
request can't be met; 76: another play holds the fleet's lock. Standard error gives the reason.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from phoenix.common import files
from phoenix.instances import (
    configurations,
    converge,
    drain,
    memory,
    model,
    paths,
    probe,
    releases,
    scale,
    switch,
    units,
)
from phoenix.instances.health import HealthCheck, Unhealthy
from phoenix.instances.model import Change
from phoenix.processes import target
from phoenix.state import turn


def status(release: str | None, configuration: str | None) -> dict[str, Any]:
    """The instances. Stale: active, but not with that release and that configuration (by default the current ones)."""
    accepted, given = configurations.accepted(), target.read().configuration
    revision = units.revision_of(
        str(paths.RELEASES / release) if release else files.target(paths.CURRENT), configuration or accepted
    )
    return {
        "current": Path(files.target(paths.CURRENT)).name,
        "releases": releases.whole(),
        "checksums": releases.checksums(),
        "used": sorted(releases.used()),
        "kept": releases.kept(),
        "configuration": accepted,
        "configurations": configurations.names(),
        "processes": sorted({*target.processes(given), *target.processes(configuration or accepted)}),
        "instances": [
            {
                "port": instance.port,
                "active": instance.active,
                "release": Path(instance.release).name,
                "configuration": instance.configuration,
                "healthy": instance.active and bool(instance.revision),
                "stale": instance.active and instance.revision != revision,
            }
            for instance in units.find()
        ],
    }


def name_of_release(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a release")
    return text


def name_of_configuration(text: str) -> str:
    if text and not re.fullmatch(rf"[0-9a-f]{{{configurations.DIGITS}}}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a configuration")
    return text


def _healthy(times: int) -> argparse.ArgumentParser:
    """Options of a HealthCheck."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--health-path", default="/")
    parser.add_argument("--timeout", type=float, default=60, help="seconds to become healthy")
    parser.add_argument("--times", type=int, default=times, help="good answers in a row that count as healthy")
    parser.add_argument("--limit", type=float, default=5, help="seconds that one answer may take")
    return parser


def _parser() -> argparse.ArgumentParser:
    ports = argparse.ArgumentParser(add_help=False)
    ports.add_argument("ports", type=int, nargs="*", metavar="PORT")
    check = argparse.ArgumentParser(add_help=False)
    check.add_argument("--check", action="store_true", help="only report what would change")
    release = argparse.ArgumentParser(add_help=False)
    release.add_argument("--release", type=name_of_release, required=True)
    configuration = argparse.ArgumentParser(add_help=False)
    configuration.add_argument("--configuration", type=name_of_configuration, default="")
    turn_of = argparse.ArgumentParser(add_help=False)
    turn.add_option(turn_of)
    some_release = argparse.ArgumentParser(add_help=False, parents=[configuration, turn_of])
    some_release.add_argument("--release", type=name_of_release)
    keep = argparse.ArgumentParser(add_help=False)
    keep.add_argument("--keep", type=int, default=5, help="releases to keep")

    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = top.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser(
        "converge", parents=[ports, check, some_release, keep, _healthy(1)],
        help="exactly these ports run the current release; restarts, one after another, what is stale",
    )  # fmt: skip
    verb.add_argument("--keep-running", action="store_true", help="stop and restart nothing that runs")
    verbs.add_parser(
        "start", parents=[ports, check, some_release, _healthy(3)], help="start those that don't run, all together"
    )
    verb = verbs.add_parser(
        "only", parents=[ports, check, turn_of], help="drain and stop all others, once nginx has left them"
    )
    verb.add_argument("--timeout", type=float, default=60, help="seconds to finish requests in flight")
    verb = verbs.add_parser(
        "switch",
        parents=[ports, release, configuration, turn_of, _healthy(1)],
        help="drain, stop, link and start the ports",
    )
    verb.add_argument("--drain", type=float, default=0, help="seconds to wait for requests in flight")
    verb.add_argument("--rehearse", action="store_true", help='read [{"path", "host"}, ...] from standard input')
    verbs.add_parser("status", parents=[some_release], help="what is there, as JSON")
    verb = verbs.add_parser("memory", parents=[ports], help="each port's memory every second, as JSON")
    verb.add_argument("--seconds", type=float, default=0)
    verbs.add_parser(
        "configure", parents=[check],
        help='write a configuration, {"template", "unit", "environment", "processes"} on standard input, beside others',
    )  # fmt: skip
    verbs.add_parser(
        "export", parents=[configuration], help="a configuration, for take-over on another host; it holds secrets"
    )
    verbs.add_parser("take-over", help="begin with the configuration on standard input, where there is none yet")
    verbs.add_parser("receive", help="write the exported configuration on standard input beside others")
    verbs.add_parser(
        "activate", parents=[release, configuration, turn_of, keep],
        help="make these what new instances get; remove old ones",
    )  # fmt: skip
    verb = verbs.add_parser(
        "drop", parents=[release, turn_of], help="remove a release that never became the current one"
    )
    verb.add_argument("--force", action="store_true", help="also one that did; one in use stays in any case")
    return top


def _change(options: argparse.Namespace, changes: list[Change]) -> None:
    """Carry out a verb that changes something. Raises Unhealthy, NotUnpacked, NotWritten and Superseded."""
    if options.verb in ("converge", "start", "switch"):
        check = HealthCheck(options.health_path, options.times, options.limit, options.timeout)
    if options.verb == "converge":
        with turn.held(options.lock):
            converge.converge(
                options.ports, options.release or "", options.configuration, check, options.keep,
                options.keep_running, options.check, changes,
            )  # fmt: skip
    elif options.verb == "start":
        changes += [Change("start", port) for port in model.missing(options.ports, units.find())]
        if changes and not options.check:
            with turn.held(options.lock):
                scale.start([change.port for change in changes], check, options.release or "", options.configuration)
    elif options.verb == "only":
        changes += [Change("stop", port) for port in model.surplus(options.ports, units.find())]
        if changes and not options.check:
            units.stop([change.port for change in changes], options.timeout, options.lock)
    elif options.verb == "switch":
        rehearsal = json.loads(sys.stdin.read() or "[]") if options.rehearse else []
        changes += [Change("switch", port) for port in options.ports]
        configuration = options.configuration or configurations.accepted()
        switch.switch(options.ports, options.release, configuration, check, options.drain, rehearsal, options.lock)
    elif options.verb == "activate":
        changes += configurations.accept(options.configuration) if options.configuration else []
        changes += releases.activate(options.release, options.keep) + configurations.prune()
    else:
        changes += releases.drop(options.release, options.force)


def configure(check: bool) -> dict[str, Any]:
    """Write the configuration on standard input."""
    given = json.load(sys.stdin)
    ports = [instance.port for instance in units.find() if instance.release]
    name, changes, differs = configurations.configure(
        given["template"], given["unit"], given["environment"], ports, check, given.get("processes", {})
    )
    if not check:
        units.reload_changed()
        paths.SHARED_ENVIRONMENT.unlink(missing_ok=True)
    return {"changed": [change.shown() for change in changes], "configuration": name, "differs": differs}


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["drain"]:
        return drain.main(arguments[1:])
    if arguments[:1] == ["probe"]:
        return probe.main(arguments[1:])
    options = _parser().parse_args(arguments)
    answers: dict[str, Callable[[], object]] = {
        "status": lambda: status(options.release, options.configuration),
        "configure": lambda: configure(options.check),
        "export": lambda: configurations.export(options.configuration),
        "take-over": lambda: {"changed": [one.shown() for one in configurations.take_over(json.load(sys.stdin))]},
        "receive": lambda: {"changed": [one.shown() for one in configurations.receive(json.load(sys.stdin))]},
        "memory": lambda: memory.sample(options.ports, options.seconds),
    }
    try:
        turn.enter(getattr(options, "lock", ""))
        if options.verb in answers:
            print(json.dumps(answers[options.verb]()))
            return 0
    except (configurations.NotWritten, turn.Superseded) as error:
        print(error, file=sys.stderr)
        return turn.LOST if isinstance(error, turn.Superseded) else 1
    changes: list[Change] = []
    try:
        _change(options, changes)
    except (Unhealthy, releases.NotUnpacked, configurations.NotWritten, turn.Superseded) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        print(json.dumps({"changed": [change.shown() for change in changes]}), flush=True)
    return 0
