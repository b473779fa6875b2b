"""The ways to people: each delivers on its own, and tries again until the receiver took the message."""

from __future__ import annotations

import email.message
import email.utils
import json
import smtplib
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from phoenix.alerting import files
from phoenix.alerting.incidents import Settings
from phoenix.alerting.messages import Message
from phoenix.common.files import replace

TIMEOUT_S = 10.0
# Attempts of one channel follow each other at these distances, the last one for ever.
RETRY_S = (5.0, 10.0, 20.0, 40.0, 60.0)


def retry_delay(attempts: int) -> float:
    """Seconds until the next attempt after `attempts` failed ones."""
    return RETRY_S[min(attempts, len(RETRY_S)) - 1]


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


class Channel:
    """Delivers the messages of one channel in a thread of its own; each waits in a file until it was taken."""

    def __init__(self, name: str, config: Mapping[str, Any], settings: Settings) -> None:
        self.name, self.config, self.settings = name, config, settings
        self.folder = files.FOLDER / "outbox" / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.wake = threading.Event()
        self.wake.set()  # for what an earlier run left
        self.attempts = 0  # failed ones since the last success
        self.delivered = self.failed = self.dropped = 0

    def put(self, message: Message) -> None:
        replace(self.folder / f"{message.id}.json", json.dumps(asdict(message)), 0o600)
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
            files.say(event="failed", channel=self.name, message=message.id, attempts=self.attempts, reason=reason)
            if waited > self.settings.give_up_seconds:
                self.dropped += 1
                files.say(event="dropped", channel=self.name, message=message.id, subject=message.subject)
                path.unlink()
            return False
        path.unlink()
        tries, self.attempts = self.attempts + 1, 0
        self.delivered += 1
        files.say(
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
