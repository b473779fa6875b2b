#!/usr/bin/python3
"""Tells people about alarms: one message an incident, grouped, repeated until delivered.

phoenix_notify_event.py spools what Netdata says; this service makes messages of it and hands them to the channels:
e-mail, a webhook (JSON), Slack. What is to be told is decided by `decide`, which knows neither clock nor network. State
and undelivered messages are files below the folder of state, so a restart loses nothing.

usage: phoenix_notify.py serve | heartbeat

serve      run the service
heartbeat  tell the outside watcher that Netdata and this service are well; status 1, and no ping, when they are not
"""

from __future__ import annotations

import copy
import email.message
import email.utils
import json
import os
import smtplib
import socket
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

SPOOL = Path("/var/spool/phoenix-notify")
FOLDER = Path("/var/lib/phoenix-notify")
METRICS = FOLDER / "metrics" / "notify.prom"
NETDATA = "http://127.0.0.1:19999"

POLL_S = 0.5
TIMEOUT_S = 10.0
# Attempts of one channel follow each other at these distances, the last one for ever.
RETRY_S = (5.0, 10.0, 20.0, 40.0, 60.0)
RECONCILE_S = 60.0
# Longer than any delay that Netdata gives to a clear: then the clear is lost (Netdata was restarted, a chart is gone).
LOST_S = 900.0
HEALTHY_AGE_S = 60.0

EVENT = {"role", "host", "when", "alarm", "chart", "status", "info", "value"}
SEVERITY = {"WARNING": 1, "CRITICAL": 2}


@dataclass(frozen=True)
class Settings:
    """What the operator sets; seconds and counts."""

    group_seconds: float = 3.0  # what comes within this time is one message
    burst: int = 6  # messages that a role gets at once; then one every refill_seconds, holding all that came
    refill_seconds: float = 60.0
    remind_seconds: float = 3600.0  # between reminders of a critical alarm
    give_up_seconds: float = 86400.0  # an undelivered message is dropped after this
    runbook: str = "docs/runbook.md"


@dataclass
class Incident:
    """One alarm on one chart of one host, from its first raise to the message that it is over."""

    role: str
    host: str
    alarm: str
    chart: str
    info: str
    status: str
    value: str
    since: float  # raised at
    noticed: float  # something untold has been known since
    told: float = 0.0  # last message about it; 0: none yet
    told_status: str = ""
    cleared: float = 0.0
    absent: float = 0.0  # not among Netdata's active alarms since


@dataclass
class State:
    """Everything that `decide` remembers."""

    incidents: dict[str, Incident] = field(default_factory=dict)
    tokens: dict[str, float] = field(default_factory=dict)  # by role
    refilled: float = 0.0

    @staticmethod
    def load(data: Mapping[str, Any]) -> State:
        """The state as it was written, also by another version: what is not known here is left out."""
        known = {f.name for f in fields(Incident)}
        incidents = {}
        for key, values in data.get("incidents", {}).items():
            try:
                incidents[key] = Incident(**{name: value for name, value in values.items() if name in known})
            except TypeError:
                continue
        return State(incidents, dict(data.get("tokens", {})), float(data.get("refilled", 0.0)))


@dataclass(frozen=True)
class Message:
    """What one role is told; `alarms` are the parts, as the webhook gets them."""

    id: str
    role: str
    created: float
    subject: str
    text: str
    alarms: list[dict[str, Any]]


# --- pure parts -------------------------------------------------------------------------------------------------------
def apply(state: State, event: Mapping[str, str], now: float) -> None:
    """Note one event of Netdata's; statuses that tell nothing about a fault (REMOVED, UNDEFINED) change nothing."""
    key = "/".join((event["host"], event["chart"], event["alarm"]))
    status, incident = event["status"], state.incidents.get(key)
    if status in SEVERITY:
        if incident is None:
            named: dict[str, Any] = {name: event[name] for name in ("role", "host", "alarm", "chart", "info")}
            incident = Incident(**named, status=status, value="", since=float(event["when"]), noticed=now)
            state.incidents[key] = incident
        elif SEVERITY[status] > SEVERITY[incident.status]:
            incident.noticed = now
        # Back before anybody was told that it is over: still the same incident.
        incident.cleared = incident.absent = 0.0
        incident.status, incident.value = status, event["value"]
    elif status == "CLEAR" and incident is not None and not incident.cleared:
        incident.cleared, incident.value = max(float(event["when"]), incident.since), event["value"]
        if incident.told:
            incident.noticed = now


def untold(incident: Incident, now: float, settings: Settings) -> str:
    """What has to be said: raised, worse, reminder, cleared, brief (came and went), or "" for nothing."""
    if incident.cleared:
        return "cleared" if incident.told else "brief"
    if not incident.told:
        return "raised"
    if SEVERITY[incident.status] > SEVERITY[incident.told_status]:
        return "worse"
    if incident.status == "CRITICAL" and now - incident.told >= settings.remind_seconds:
        return "reminder"
    return ""


def decide(
    state: State, events: Iterable[Mapping[str, str]], now: float, settings: Settings
) -> tuple[State, list[Message]]:
    """Take events in and say which messages are due, at most one a role; times are seconds since 1970.

    What comes within `group_seconds` becomes one message. Each role has a bucket of `burst` messages that refills by
    one every `refill_seconds`: a storm of the whole fleet ends in few messages that hold all of it.
    """
    state = copy.deepcopy(state)
    for event in events:
        apply(state, event, now)
    passed, state.refilled = max(0.0, now - (state.refilled or now)), now
    for role in state.tokens:
        state.tokens[role] = min(float(settings.burst), state.tokens[role] + passed / settings.refill_seconds)
    due: dict[str, list[tuple[str, Incident, str]]] = {}
    for key, incident in state.incidents.items():
        if kind := untold(incident, now, settings):
            due.setdefault(incident.role, []).append((key, incident, kind))
    messages = []
    for role, parts in due.items():
        # A reminder has waited long enough.
        waited = max(settings.group_seconds if kind == "reminder" else now - i.noticed for _, i, kind in parts)
        if state.tokens.setdefault(role, float(settings.burst)) < 1.0 or waited < settings.group_seconds:
            continue
        state.tokens[role] -= 1.0
        messages.append(compose(role, [(incident, kind) for _, incident, kind in parts], now, settings))
        for key, incident, _ in parts:
            if incident.cleared:
                del state.incidents[key]
            else:
                incident.told, incident.told_status = now, incident.status
    return state, messages


def lasted(seconds: float) -> str:
    """A duration for people: 75 -> "1 min 15 s"."""
    whole = round(seconds)
    parts = ((whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"


def when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def part(incident: Incident, kind: str, now: float, settings: Settings) -> dict[str, Any]:
    """One incident as the webhook gets it. The alarm's `info` is "what | threshold"."""
    what, _, threshold = (piece.strip() for piece in incident.info.partition("|"))
    return {
        "event": kind,
        "host": incident.host,
        "alarm": incident.alarm,
        "what": f"{what} ({incident.chart.partition('.')[2]})",
        "status": "CLEAR" if incident.cleared else incident.status,
        "value": incident.value,
        "threshold": threshold,
        "since": when(incident.since),
        "lasted": lasted((incident.cleared or now) - incident.since),
        "runbook": f"{settings.runbook}#alarm-{incident.alarm}",
    }


HEADS = {
    "raised": "{status}",
    "worse": "now {status}",
    "reminder": "still {status}",
    "cleared": "CLEAR after {lasted}",
    "brief": "came and went, lasted {lasted}",
}


def compose(role: str, parts: list[tuple[Incident, str]], now: float, settings: Settings) -> Message:
    """One message about all parts, the gravest first."""
    ordered = sorted(parts, key=lambda p: (bool(p[0].cleared), -SEVERITY[p[0].status], p[0].host, p[0].alarm))
    alarms = [part(incident, kind, now, settings) for incident, kind in ordered]
    heads = [HEADS[a["event"]].format(**a) for a in alarms]
    first = f"{heads[0]}: {alarms[0]['host']}: {alarms[0]['what']} = {alarms[0]['value']}"
    more = f" (and {len(alarms) - 1} more)" if len(alarms) > 1 else ""
    blocks = [
        f"{head}: {a['what']}\n"
        f"  host       {a['host']}\n"
        f"  value      {a['value']}\n"
        f"  threshold  {a['threshold']}\n"
        f"  since      {a['since']} ({a['lasted']})\n"
        f"  runbook    {a['runbook']}\n"
        for head, a in zip(heads, alarms, strict=True)
    ]
    return Message(f"{int(now * 1000)}-{role}", role, now, f"[Phoenix] {first}{more}", "\n".join(blocks), alarms)


def retry_delay(attempts: int) -> float:
    """Seconds until the next attempt after `attempts` failed ones."""
    return RETRY_S[min(attempts, len(RETRY_S)) - 1]


# --- channels ---------------------------------------------------------------------------------------------------------
def send_email(channel: Mapping[str, Any], message: Message) -> str:
    """Raises OSError (smtplib's errors are such) when the server does not take it for any recipient."""
    mail = email.message.EmailMessage()
    mail["Subject"], mail["From"], mail["To"] = message.subject, channel["sender"], ", ".join(channel["to"])
    mail["Date"] = email.utils.formatdate(message.created)
    mail["Message-ID"] = f"<{message.id}@{socket.getfqdn()}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(message.text)
    security = channel.get("security", "starttls")
    context = ssl.create_default_context()
    if security == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(channel["host"], channel["port"], timeout=TIMEOUT_S, context=context)
    else:
        server = smtplib.SMTP(channel["host"], channel["port"], timeout=TIMEOUT_S)
    with server:
        if security == "starttls":
            server.starttls(context=context)
        if channel.get("user"):
            server.login(channel["user"], channel["password"])
        refused = server.send_message(mail)
    return f"accepted for {len(channel['to']) - len(refused)} of {len(channel['to'])}"


def post(url: str, body: Mapping[str, Any], token: str = "") -> str:
    """Raises OSError when the receiver does not answer with 2xx."""
    headers = {"Content-Type": "application/json", "User-Agent": "phoenix-notify"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        return f"HTTP {answer.status}"


def send_webhook(channel: Mapping[str, Any], message: Message) -> str:
    return post(channel["url"], asdict(message), channel.get("token", ""))


def send_slack(channel: Mapping[str, Any], message: Message) -> str:
    """Slack's incoming webhook; the block of code keeps the columns."""
    return post(channel["url"], {"text": f"*{message.subject}*\n```{message.text}```"})


SENDERS: dict[str, Callable[[Mapping[str, Any], Message], str]] = {
    "email": send_email,
    "webhook": send_webhook,
    "slack": send_slack,
}


def replace(path: Path, text: str) -> None:
    trial = path.with_suffix(".new")
    trial.write_text(text, encoding="utf-8")
    trial.replace(path)


def say(**fields: Any) -> None:
    print(json.dumps(fields), flush=True)


class Channel:
    """Delivers the messages of one channel in a thread of its own; each waits in a file until it was taken."""

    def __init__(self, name: str, config: Mapping[str, Any], settings: Settings) -> None:
        self.name, self.config, self.settings = name, config, settings
        self.folder = FOLDER / "outbox" / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.wake = threading.Event()
        self.wake.set()  # for what an earlier run left
        self.attempts = 0  # failed ones since the last success
        self.delivered = self.failed = self.dropped = 0

    def put(self, message: Message) -> None:
        replace(self.folder / f"{message.id}.json", json.dumps(asdict(message)))
        self.wake.set()

    def waiting(self) -> list[Path]:
        return sorted(self.folder.glob("*.json"))

    def oldest(self, now: float) -> float:
        """Age of the oldest waiting message, in seconds."""
        waiting = self.waiting()
        return max(0.0, now - int(waiting[0].name.partition("-")[0]) / 1000) if waiting else 0.0

    def run(self) -> None:
        while True:
            # A new message is a reason to try at once, also the older ones.
            self.wake.wait(retry_delay(self.attempts) if self.attempts else None)
            self.wake.clear()
            for path in self.waiting():
                if not self.attempt(path):
                    break  # behind this one the others would fail too: they wait with it

    def attempt(self, path: Path) -> bool:
        message = Message(**json.loads(path.read_text(encoding="utf-8")))
        waited = time.time() - message.created
        try:
            answer = SENDERS[self.config["type"]](self.config, message)
        except Exception as error:  # noqa: BLE001 - whatever the network does is a reason to try again
            self.attempts += 1
            self.failed += 1
            reason = f"{type(error).__name__}: {error}"
            say(event="failed", channel=self.name, message=message.id, attempts=self.attempts, reason=reason)
            if waited > self.settings.give_up_seconds:
                self.dropped += 1
                say(event="dropped", channel=self.name, message=message.id, subject=message.subject)
                path.unlink()
            return False
        path.unlink()
        tries, self.attempts = self.attempts + 1, 0
        self.delivered += 1
        say(
            event="delivered",
            channel=self.name,
            message=message.id,
            tries=tries,
            seconds=round(time.time() - message.created, 1),
            answer=answer,
            subject=message.subject,
            alarms=[f"{alarm['host']} {alarm['alarm']} {alarm['event']}" for alarm in message.alarms],
        )
        return True


# --- the service ------------------------------------------------------------------------------------------------------
Active = Mapping[str, Mapping[str, dict[str, str]] | None]


def ask(path: str) -> Any:
    with urllib.request.urlopen(NETDATA + path, timeout=TIMEOUT_S) as answer:
        return json.load(answer)


def active_alarms(hosts: Iterable[str]) -> Active:
    """What Netdata holds active, by host and key, as events; None for a host without an answer, {} for a lost one."""
    active: dict[str, Mapping[str, dict[str, str]] | None] = {}
    for host in hosts:
        try:
            alarms = ask(f"/host/{host}/api/v1/alarms?active")["alarms"].values()
        except urllib.error.HTTPError as error:
            active[host] = {} if error.code == 404 else None
        except (OSError, ValueError, KeyError):
            active[host] = None
        else:
            active[host] = {
                "/".join((host, alarm["chart"], alarm["name"])): {
                    "role": alarm["recipient"],
                    "host": host,
                    "when": str(alarm["last_status_change"]),
                    "alarm": alarm["name"],
                    "chart": alarm["chart"],
                    "status": alarm["status"],
                    "info": alarm["info"],
                    "value": alarm["value_string"],
                }
                for alarm in alarms
            }
    return active


def missed(state: State, active: Active, now: float) -> list[dict[str, str]]:
    """Events that Netdata did not hand over: raises that nobody was told of, and clears that never came.

    A clear is missed when the alarm has not been active for longer than Netdata delays any; marks the absent.
    """
    events = [
        event
        for known in active.values()
        for key, event in (known or {}).items()
        # A younger one may just be on its way.
        if key not in state.incidents and now - float(event["when"]) >= RECONCILE_S
    ]
    for key, incident in state.incidents.items():
        known = active.get(incident.host)
        if incident.cleared or known is None:
            continue
        if key in known:
            incident.absent = 0.0
        elif not incident.absent:
            incident.absent = now
        elif now - incident.absent >= LOST_S:
            gone = {"host": incident.host, "chart": incident.chart, "alarm": incident.alarm, "status": "CLEAR"}
            events.append({**gone, "when": str(incident.absent), "value": "gone"})
    return events


class Service:
    """Takes events out of the spool, keeps the state, hands messages to the channels."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.settings = Settings(**config["settings"])
        self.recipients: Mapping[str, list[str]] = config["recipients"]
        self.channels = {name: Channel(name, c, self.settings) for name, c in config["channels"].items()}
        self.file = FOLDER / "state.json"
        self.state = State.load(self.recorded())
        # First when Netdata, which may be starting too, has had the time to.
        self.reconciled, self.reported = time.time(), 0.0
        METRICS.parent.mkdir(exist_ok=True)

    def recorded(self) -> Mapping[str, Any]:
        try:
            return dict(json.loads(self.file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            say(event="unreadable", file=self.file.name, reason=str(error))
            return {}

    def hosts(self) -> set[str]:
        """Those that Netdata knows, and those of open incidents."""
        hosts = {incident.host for incident in self.state.incidents.values()}
        try:
            return hosts | set(ask("/api/v1/info")["mirrored_hosts"])
        except (OSError, ValueError, KeyError):
            return hosts

    def spooled(self) -> list[tuple[Path, dict[str, str]]]:
        events = []
        for path in sorted(SPOOL.glob("*.json")):
            try:
                event = json.loads(path.read_text(encoding="utf-8"))
                if not event.keys() >= EVENT:
                    raise ValueError(f"it lacks {EVENT - event.keys()}")
                events.append((path, event))
            except (OSError, ValueError) as error:
                say(event="unreadable", file=path.name, reason=str(error))
                path.unlink(missing_ok=True)
        return events

    def step(self, now: float) -> None:
        spooled = self.spooled()
        events = [event for _, event in spooled]
        if now - self.reconciled >= RECONCILE_S:
            self.reconciled = now
            events += missed(self.state, active_alarms(self.hosts()), now)
        before = self.state.incidents
        self.state, messages = decide(self.state, events, now, self.settings)
        # In the outbox first, then out of the state, then out of the spool: at worst a message comes twice.
        for message in messages:
            for name in self.recipients.get(message.role, self.recipients["default"]):
                self.channels[name].put(message)
        if messages or self.state.incidents != before:
            replace(self.file, json.dumps(asdict(self.state)))
        for path, _ in spooled:
            path.unlink()
        if now - self.reported >= 5:
            self.reported = now
            self.report(now)

    def report(self, now: float) -> None:
        channels = self.channels.values()
        values = {
            "waiting_messages": sum(len(c.waiting()) for c in channels),
            "waiting_age_seconds": max((c.oldest(now) for c in channels), default=0.0),
            "failing_channels": sum(c.attempts > 0 for c in channels),
            "delivered_total": sum(c.delivered for c in channels),
            "failed_attempts_total": sum(c.failed for c in channels),
            "dropped_total": sum(c.dropped for c in channels),
            "open_incidents": len(self.state.incidents),
        }
        replace(METRICS, "".join(f"phoenix_notify_{name} {value:g}\n" for name, value in values.items()))

    def run(self) -> None:
        for channel in self.channels.values():
            threading.Thread(target=channel.run, daemon=True).start()
        while True:
            self.step(time.time())
            time.sleep(POLL_S)


def unwell(now: float) -> str:
    """Why the outside watcher should worry, or ""."""
    try:
        ask("/api/v1/info")
    except (OSError, ValueError) as error:
        return f"Netdata does not answer: {error}"
    try:
        age, text = now - METRICS.stat().st_mtime, METRICS.read_text(encoding="utf-8")
    except OSError as error:
        return f"phoenix-notify has not written its metrics: {error}"
    if age > HEALTHY_AGE_S:
        return f"phoenix-notify has been still for {lasted(age)}"
    values = dict(line.split() for line in text.splitlines())
    waiting = float(values["phoenix_notify_waiting_age_seconds"])
    return f"a message has been waiting for {lasted(waiting)}" if waiting > 600 else ""


def heartbeat(config: Mapping[str, Any]) -> int:
    """Ping the outside watcher, unless something is unwell."""
    if reason := unwell(time.time()):
        print(f"no heartbeat: {reason}", file=sys.stderr)
        return 1
    try:
        post(config["url"], {"host": socket.gethostname(), "time": when(time.time())})
    except OSError as error:
        print(f"the watcher does not take the heartbeat: {error}", file=sys.stderr)
        return 1
    return 0


def main() -> int:
    """The configuration, which holds secrets, comes as a credential of systemd's."""
    config = json.loads(Path(os.environ["CREDENTIALS_DIRECTORY"], "config").read_text(encoding="utf-8"))
    if sys.argv[1:] == ["heartbeat"]:
        return heartbeat(config)
    Service(config).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
