"""The record of deploys, on control: one line of JSON each, the newest last.

phoenixctl deploys begin      records the start of a deploy, also in the metrics, and prints its number
phoenixctl deploys prepare    records that its release command was carried out
phoenixctl deploys mark       records that a phase begins
phoenixctl deploys prepared   prints whether a release's command was ever carried out: yes or no
phoenixctl deploys end        records its result, also in the metrics
phoenixctl deploys show       prints the last ones, for people or (--json) for programs
phoenixctl deploys previous   prints the release that served before the current one; exit status 1: none is known
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from phoenix.common import files, prometheus

RECORD = Path("/var/lib/phoenix/state/deploys.jsonl")
METRICS = Path("/var/lib/phoenix/metrics/deploy.prom")
RESULTS = ("good", "rolled back", "failed")  # in the order of the metric's values
KEEP = 500
RARE = frozenset({"marks", "prepared", "times"})  # fields that are in the record only where they say something


@dataclass(frozen=True)
class Deploy:
    """One deploy. began: seconds since the epoch; seconds: its duration; result "": none was recorded."""

    number: int
    what: str  # deploy, rollback or roll
    who: str
    version: str
    previous: str
    began: float
    result: str = ""
    seconds: float = 0.0
    reason: str = ""
    seen: str = ""
    times: dict[str, float] = field(default_factory=dict)  # seconds by phase
    marks: list[tuple[str, float]] = field(default_factory=list)  # until it ends: each phase, and when it began
    prepared: bool = False  # the release command, such as a migration, was carried out

    def line(self) -> str:
        """The line of the record. Without what most deploys lack: earlier versions read no other fields."""
        return json.dumps({key: value for key, value in asdict(self).items() if key not in RARE or value})


def read(record: Path = RECORD) -> list[Deploy]:
    """All recorded deploys. An invalid line (the disk was full) is skipped."""
    found = []
    for line in record.read_text(encoding="utf-8").splitlines() if record.exists() else []:
        try:
            found.append(Deploy(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return found


def write(deploys: Iterable[Deploy], record: Path = RECORD) -> None:
    lines = [deploy.line() for deploy in deploys][-KEEP:]
    files.replace(record, "\n".join(lines) + "\n", durable=True)


def previous(deploys: Iterable[Deploy]) -> str:
    """The release that served before the current one; "" when none is known.

    A rollback drops the release it left: after a rollback from b to a, the release before a is next, never b.
    """
    served: list[str] = []
    for deploy in deploys:
        if deploy.result != "good" or deploy.what == "roll":
            continue
        if not served and deploy.previous:
            served.append(deploy.previous)
        if deploy.what == "rollback" and deploy.version in served:
            del served[len(served) - served[::-1].index(deploy.version) :]
        elif not served or served[-1] != deploy.version:
            served.append(deploy.version)
    return served[-2] if len(served) > 1 else ""


def prepared(deploys: Iterable[Deploy], version: str) -> bool:
    """Whether the release's command was carried out, whatever became of the deploy."""
    return any(deploy.prepared for deploy in deploys if deploy.version == version)


def durations(marks: Sequence[tuple[str, float]], end: float) -> dict[str, float]:
    """Seconds by phase, from the moments at which phases began; one may come several times."""
    spent: dict[str, float] = {}
    following = [*(began for _, began in marks[1:]), end]
    for (phase, began), until in zip(marks, following):
        spent[phase] = round(spent.get(phase, 0.0) + until - began, 1)
    return spent


def mark(number: int, phase: str, now: float, record: Path = RECORD) -> None:
    """Record that a phase of a deploy begins. Raises OSError."""
    write(
        (
            replace(deploy, marks=[*deploy.marks, (phase, round(now, 1))]) if deploy.number == number else deploy
            for deploy in read(record)
        ),
        record,
    )


GAUGES = {
    "phoenix_deploy_running": "1 from the start of a deploy to its end; one that was killed never ends.",
    "phoenix_deploy_last_result": "0 good, 1 rolled back, 2 failed",
    "phoenix_deploy_last_timestamp_seconds": "When the last deploy ended.",
    "phoenix_deploy_last_duration_seconds": "How long it took.",
}


def metrics(deploys: Iterable[Deploy]) -> str:
    """The metrics for Netdata: whether the newest deploy runs, and the result of the last one that ended."""
    values = {"phoenix_deploy_running": 0.0}
    for deploy in deploys:
        values["phoenix_deploy_running"] = float(deploy.result == "")
        if deploy.result:
            result = RESULTS.index(deploy.result)
            values.update(
                zip(list(GAUGES)[1:], (result, round(deploy.began + deploy.seconds), round(deploy.seconds, 1)))
            )
    return prometheus.exposition(values, GAUGES)


def write_metrics(text: str, path: Path = METRICS) -> None:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    files.replace(path, text)


def describe(deploy: Deploy, *, newest: bool = True) -> str:
    """A deploy for people. Only the newest may still run: the lock keeps another one from beginning before it ended."""
    when = datetime.fromtimestamp(deploy.began, timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
    result = deploy.result or ("not ended" if newest else "interrupted")
    spent = ", ".join(f"{phase} {seconds:.0f} s" for phase, seconds in deploy.times.items())
    spent = f" ({spent})" if spent else ""
    text = f"{when}  {deploy.what:<8}  {deploy.version:<24}  {result:<11}  {deploy.seconds:>5.0f} s{spent}"
    text += f"  by {deploy.who}" + (", release command run" if deploy.prepared else "")
    return f"{text}: {deploy.reason}" if deploy.reason else text


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(dest="command", required=True)
    verb = commands.add_parser("begin")
    verb.add_argument("--what", choices=("deploy", "rollback", "roll"), required=True)
    for name in ("who", "version", "previous"):
        verb.add_argument(f"--{name}", required=True)
    verb = commands.add_parser("prepare")
    verb.add_argument("--number", type=int, required=True)
    verb = commands.add_parser("mark")
    verb.add_argument("--number", type=int, required=True)
    verb.add_argument("--phase", required=True)
    verb = commands.add_parser("prepared")
    verb.add_argument("--version", required=True)
    verb = commands.add_parser("end")
    verb.add_argument("--number", type=int, required=True)
    verb.add_argument("--result", choices=RESULTS, required=True)
    verb.add_argument("--reason", default="")
    verb.add_argument("--seen", default="", help="figures of the canary")
    verb.add_argument("--times", help=argparse.SUPPRESS)  # of plays of 0.12, which control may have for a while
    verb = commands.add_parser("show")
    verb.add_argument("--last", type=int, default=5)
    verb.add_argument("--json", action="store_true")
    commands.add_parser("previous")
    return top


def main(arguments: list[str]) -> int:
    options = parser().parse_args(arguments)
    deploys, now = read(), time.time()
    if options.command == "begin":
        number = max((deploy.number for deploy in deploys), default=0) + 1
        begun = Deploy(number, options.what, options.who, options.version, options.previous, round(now, 1))
        write([*deploys, begun])
        write_metrics(metrics([*deploys, begun]))
        print(number)
    elif options.command == "prepare":
        write([replace(deploy, prepared=True) if deploy.number == options.number else deploy for deploy in deploys])
    elif options.command == "mark":
        mark(options.number, options.phase, now)
    elif options.command == "prepared":
        print("yes" if prepared(deploys, options.version) else "no")
    elif options.command == "end":
        changed = []
        for deploy in deploys:
            if deploy.number == options.number:
                took = round(now - deploy.began, 1)
                deploy = replace(  # noqa: PLW2901 - the line that is written instead
                    deploy,
                    result=options.result,
                    seconds=took,
                    reason=options.reason,
                    seen=options.seen,
                    times=durations(deploy.marks, now),
                    marks=[],
                )
            changed.append(deploy)
        write(changed)
        write_metrics(metrics(changed))
    elif options.command == "previous":
        if not (version := previous(deploys)):
            print("No earlier release is on record: name one with phoenix_version", file=sys.stderr)
            return 1
        print(version)
    else:
        last = deploys[-options.last :]
        lines = [describe(deploy, newest=deploy is deploys[-1]) for deploy in last]
        print(json.dumps([asdict(deploy) for deploy in last]) if options.json else "\n".join(lines))
    return 0
