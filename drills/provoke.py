"""Provoke each alarm once on the running lab fleet, and wait for the mails that it is raised and that it is over.

usage: python -m drills.provoke [--missing] [--list] [ALARM ...]    (make alarms; without an alarm, all of them)

Those that share nothing are provoked at the same time, which takes about ten minutes. Writes alarms.json and alarms.md
into the folder `reports`, alarm by alarm: a run that is broken off continues with --missing. Exit status 1: an alarm
was not raised, or not cleared.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from drills.model import Provocation, Scene
from drills.provocations import NOT_PROVOKED, PROVOCATIONS
from tests.harness import plays
from tests.harness.alarms import RECEIVED
from tests.harness.hosts import first_of

FOLDER = Path("reports")
# Every role's mails go there; the webhook is made to fail on the way. One message may hold several alarms.
PART = re.compile(
    r"^(?P<head>\S[^\n]*)\n  host +(?P<host>\S+)\n  value +(?P<value>[^\n]*)\n"
    r"(?:  [^\n]*\n)*?  runbook +\S+#alarm-(?P<alarm>\w+)$",
    re.M,
)
OVER = ("CLEAR", "came and went")
# Each message as soon as it is due: otherwise a role's seventh within some minutes waits for up to a minute.
AT_ONCE = {"alerting_burst": 100, "alerting_refill_seconds": 1}


@dataclass(frozen=True)
class Part:
    """What a mail says of one alarm on one chart of one host. time: when the lab's mail server received it."""

    alarm: str
    host: str
    chart: str
    over: bool
    text: str
    time: float


def parts(mail: dict[str, Any]) -> Iterator[Part]:
    """Read a mail as the lab's receiver recorded it. One about another message that was refused says nothing new."""
    if mail["kind"] != "mail" or "did not deliver" in mail["subject"]:
        return
    for found in PART.finditer(mail["body"]["text"].replace("\r\n", "\n")):
        head, chart = found["head"], re.search(r"\(([^()]*)\)$", found["head"])
        text = f"{head} = {found['value']}"
        yield Part(found["alarm"], found["host"], chart[1] if chart else "", head.startswith(OVER), text, mail["time"])


class Inbox(threading.Thread):
    """Reads the lab's mail server while entered."""

    def __init__(self, receiver: Any) -> None:
        super().__init__(daemon=True)
        self.receiver, self.read, self.got = receiver, self.size(receiver), list[Part]()
        self.changed, self.ended = threading.Condition(), threading.Event()

    @staticmethod
    def size(receiver: Any) -> int:
        return int(receiver.run(f"wc -c <{RECEIVED}").stdout.strip() or 0)

    def run(self) -> None:
        while not self.ended.wait(1):
            with contextlib.suppress(Exception):  # a host too busy for a session: again
                text = self.receiver.check_output(
                    f"tail -c +{self.read + 1} {RECEIVED}",
                )
                whole = text if text.endswith("}") else text.rpartition("\n")[0]
                if whole:
                    self.note(whole)

    def note(self, text: str) -> None:
        self.read += len(text.encode()) + 1
        with self.changed:
            self.got += [part for line in text.splitlines() for part in parts(json.loads(line))]
            self.changed.notify_all()

    def about(self, alarm: str, mark: str, since: float) -> list[Part]:
        return [p for p in self.got if p.alarm == alarm and mark in p.chart and p.time >= since]

    def wait(self, alarms: Sequence[str], mark: str, since: float, *, over: bool, seconds: float) -> None:
        """Wait until all are raised, or all that were raised are over."""

        def reached() -> bool:
            return all(state(self.about(alarm, mark, since)) == ("over" if over else "raised") for alarm in alarms)

        with self.changed:
            self.changed.wait_for(reached, seconds)


def state(about: Sequence[Part]) -> str:
    """Of the messages about one alarm: "" for none, "raised" while it is on any chart, then "over"."""
    last = {(part.host, part.chart): part.over for part in about}
    if not any(not part.over for part in about):
        return ""
    return "over" if all(last.values()) else "raised"


@dataclass(frozen=True)
class Outcome:
    """One alarm's: seconds from the fault to the message, and from the fault's end to the message that it is over."""

    alarm: str
    how: str
    real: bool
    settings: dict[str, float]
    raised_s: float | None = None
    message: str = ""
    cleared_s: float | None = None
    error: str = ""

    @property
    def good(self) -> bool:
        return not self.error and self.raised_s is not None and self.cleared_s is not None


def outcomes(one: Provocation, inbox: Inbox, began: float, ended: float, error: str) -> Iterator[Outcome]:
    for alarm in one.alarms:
        about = inbox.about(alarm, one.mark, began)
        first = next((part for part in about if not part.over), None)
        cleared = about[-1].time - ended if state(about) == "over" else None
        wrong = error or ("not raised" if first is None else "" if cleared is not None else "not cleared")
        raised = None if first is None else round(first.time - began, 1)
        settled = None if cleared is None else round(max(0.0, cleared), 1)
        text = "" if first is None else first.text
        yield Outcome(alarm, one.how, one.real, dict(one.settings), raised, text, settled, wrong)


def provoke(one: Provocation, scene: Scene, inbox: Inbox, locks: Mapping[str, threading.Lock]) -> list[Outcome]:
    """Provoke, wait for the messages, end it, and wait until it is over; what it uses is free from the fault's end."""
    error, began, ended = "", time.time(), time.time()
    try:
        with one.stage(scene):
            with contextlib.ExitStack() as used:
                for name in sorted(one.uses):
                    used.enter_context(locks[name])
                began = time.time()
                with one.act(scene):
                    inbox.wait(one.alarms, one.mark, began, over=False, seconds=one.raise_s)
                ended = time.time()
            inbox.wait(one.alarms, one.mark, began, over=True, seconds=one.clear_s)
    except Exception as failure:  # noqa: BLE001 - whatever it was is the outcome
        error = f"{type(failure).__name__}: {failure}"
    return list(outcomes(one, inbox, began, ended, error))


@contextmanager
def lowered(scene: Scene, chosen: Sequence[Provocation]) -> Iterator[None]:
    """Lower the limits that would take too long, by the role, and put them back."""
    settings: dict[str, Any] = {**AT_ONCE}
    for one in chosen:
        settings.update(one.settings)
    try:
        scene.play("site", "--tags", "alerting", **settings)
        yield
    finally:
        scene.play("site", "--tags", "alerting")


def run(chosen: Sequence[Provocation], scene: Scene) -> list[Outcome]:
    """Provoke all of them, each as soon as nothing that it uses is in use; write each outcome when it is there."""
    inbox, done, writing = Inbox(first_of("receivers", scene.inventory)), list[Outcome](), threading.Lock()
    locks = {name: threading.Lock() for one in chosen for name in one.uses}

    def work(one: Provocation) -> None:
        found = provoke(one, scene, inbox, locks)
        with writing:
            done.extend(found)
            write(found, FOLDER)
            print("\n".join(map(row, found)), flush=True)

    inbox.start()
    threads = [threading.Thread(target=work, args=(one,)) for one in chosen]
    for thread in threads:
        thread.start()
        time.sleep(1)  # sshd admits few at once
    for thread in threads:
        thread.join()
    inbox.ended.set()
    return done


HEAD = "| alarm | how it was provoked | raised after | message | over after |\n|---|---|---|---|---|"


def row(outcome: Outcome) -> str:
    def seconds(value: float | None) -> str:
        return "**never**" if value is None else f"{value:.0f} s"

    how = outcome.how if outcome.real else f"fed: {outcome.how}"
    if outcome.settings:
        how += "; " + ", ".join(f"`{name}: {value:g}`" for name, value in outcome.settings.items())
    text = outcome.message.replace("|", "\\|") or f"**{outcome.error}**".replace("\n", " ")
    return f"| `{outcome.alarm}` | {how} | {seconds(outcome.raised_s)} | {text} | {seconds(outcome.cleared_s)} |"


def markdown(found: Sequence[Outcome]) -> str:
    rows = "".join(row(outcome) + "\n" for outcome in sorted(found, key=lambda one: one.alarm))
    without = "".join(f"\n- `{alarm}` is not provoked: {why}" for alarm, why in sorted(NOT_PROVOKED.items()))
    return f"{HEAD}\n{rows}{without}"


def read(folder: Path) -> dict[str, Outcome]:
    path = folder / "alarms.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return {one["alarm"]: Outcome(**one) for one in found}


def write(found: Sequence[Outcome], folder: Path) -> None:
    """Write alarms.json and alarms.md; an alarm that was provoked again replaces its former outcome."""
    folder.mkdir(exist_ok=True)
    merged = [*{**read(folder), **{one.alarm: one for one in found}}.values()]
    (folder / "alarms.json").write_text(json.dumps([asdict(one) for one in merged], indent=1) + "\n", encoding="utf-8")
    (folder / "alarms.md").write_text(markdown(merged), encoding="utf-8")


def main() -> int:
    known = [alarm for one in PROVOCATIONS for alarm in one.alarms]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("alarm", nargs="*", choices=[[], *known], help="default: all")
    parser.add_argument("--missing", action="store_true", help="only those without a good outcome in the report")
    parser.add_argument("--list", action="store_true", help="name them, and how each is provoked")
    options = parser.parse_args()
    wanted = set(options.alarm or known)
    if options.missing:
        wanted -= {alarm for alarm, outcome in read(FOLDER).items() if outcome.good}
    chosen = [one for one in PROVOCATIONS if wanted & set(one.alarms)]
    if options.list:
        print("\n".join(f"{', '.join(one.alarms)}: {one.how}" for one in chosen))
        return 0
    scene = Scene(os.environ["PHOENIX_INVENTORY"], os.environ["PHOENIX_URL"].rstrip("/"))
    with lowered(scene, chosen):
        found = run(chosen, scene)
    verified = plays.run(scene.inventory, "verify")
    print(plays.excerpt(verified.stdout) if verified.returncode else "The fleet is whole.", file=sys.stderr)
    return int(verified.returncode != 0 or not all(outcome.good for outcome in found))


if __name__ == "__main__":
    sys.exit(main())
