"""The ways to people: each delivers on its own, and retries until the receiver accepts the message or refuses it.

An error of one message never blocks those behind it: what the receiver refuses for good is given up and reported, what
it refuses for now is retried while the others pass. Only a receiver that does not answer holds all of them back.
"""

from __future__ import annotations

import email.message
import email.utils
import html
import http.client
import json
import re
import smtplib
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from phoenix.alerting import files
from phoenix.alerting.files import log
from phoenix.alerting.incidents import Settings
from phoenix.alerting.messages import Message
from phoenix.common import web
from phoenix.common.files import replace

TIMEOUT_S = 10.0
# Attempts of one channel follow each other at these distances, the last one for ever.
RETRY_S = (5.0, 10.0, 20.0, 40.0, 60.0)


def retry_delay(attempts: int) -> float:
    """Seconds until the next attempt after `attempts` failed ones."""
    return RETRY_S[min(attempts, len(RETRY_S)) - 1]


# HTTP's 4xx that may pass: credentials that the operator corrects, a timeout, "too early", a rate limit.
PASSING = (401, 408, 425, 429)
# Errors with which a receiver answers one message; the next may fare better.
ANSWERS = (
    urllib.error.HTTPError,
    smtplib.SMTPSenderRefused,
    smtplib.SMTPRecipientsRefused,
    smtplib.SMTPDataError,
)
FORGET_S = 3600.0
MALFORMED = "its url is no http(s):// address, or that or its token holds a space or a line break; correct it"


def permanent(error: Exception) -> bool:
    """Whether this message fails for good with this error; others, also those of a whole session, may pass."""
    if isinstance(error, urllib.error.HTTPError):
        return 400 <= error.code < 500 and error.code not in PASSING
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return not passing(error)
    if isinstance(error, (smtplib.SMTPSenderRefused, smtplib.SMTPDataError)):
        return error.smtp_code >= 500
    # Neither the network nor the receiver: the message does not fit into the channel's form.
    return not isinstance(error, (OSError, http.client.HTTPException))


def passing(error: smtplib.SMTPRecipientsRefused) -> list[str]:
    """The recipients that the server may accept later."""
    return [recipient for recipient, (code, _) in error.recipients.items() if code < 500]


def listed(names: str | Sequence[str]) -> list[str]:
    """Names as a list: an operator may give a single one by itself."""
    return [names] if isinstance(names, str) else list(names)


def send_email(channel: Mapping[str, Any], message: Message) -> str:
    """Send a mail to `to`; smtplib's errors are OSError.

    Raises:
        SMTPRecipientsRefused: not accepted for the named recipients; all others have it.
    """
    mail = email.message.EmailMessage()
    to = listed(channel["to"])
    mail["Subject"], mail["From"], mail["To"] = message.subject, channel["sender"], ", ".join(to)
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
        try:
            refused = server.send_message(mail)
        except smtplib.SMTPRecipientsRefused as error:
            # Those without an answer: the server ended the session at one before them.
            refused = dict.fromkeys(to, (421, b"session ended")) | error.recipients
    if refused:
        raise smtplib.SMTPRecipientsRefused(refused)
    return f"accepted for {len(to)}"


def post(url: str, body: Mapping[str, Any], token: str = "") -> str:
    """Post as JSON, to this address alone: redirected, it would become a GET without the message, and succeed.

    Raises:
        OSError: the receiver does not answer with 2xx.
        HTTPException: its answer is not HTTP.
        ValueError: the address or the token can't be sent, such as for a line break.
    """
    headers = {"Content-Type": "application/json", "User-Agent": "phoenix-notify"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        return f"HTTP {web.send(urllib.request.Request(url, json.dumps(body).encode(), headers), TIMEOUT_S)}"
    except (ValueError, http.client.InvalidURL):
        # Their texts quote the address or the token, and reasons are logged and sent by other channels.
        raise ValueError(MALFORMED) from None


def send_webhook(channel: Mapping[str, Any], message: Message) -> str:
    return post(channel["url"], asdict(message), channel.get("token", ""))


def send_slack(channel: Mapping[str, Any], message: Message) -> str:
    """Post to Slack's incoming webhook; the block of code keeps the columns.

    Text from hosts is data: unescaped, `<!channel>` would notify everyone. https://docs.slack.dev/messaging/formatting-message-text
    """
    # A fence within would end the block.
    plain = (part.replace("```", "'''") for part in (message.subject, message.text))
    subject, text = (html.escape(part, quote=False) for part in plain)
    return post(channel["url"], {"text": f"*{subject}*\n```{text}```"})


SENDERS: dict[str, Callable[[Mapping[str, Any], Message], str]] = {
    "email": send_email,
    "webhook": send_webhook,
    "slack": send_slack,
}


class Channel:
    """Delivers the messages of one channel in a thread of its own; each waits in a file until it is accepted.

    `report` is called with what is given up without reaching anyone: the channel's name, the message and the reason.
    """

    def __init__(
        self,
        name: str,
        config: Mapping[str, Any],
        settings: Settings,
        report: Callable[[str, Message, str], None],
    ) -> None:
        self.name, self.config, self.settings, self.report = name, config, settings, report
        self.folder = files.FOLDER / "outbox" / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.wake = threading.Event()
        self.wake.set()  # for what an earlier run left
        self.attempts = 0  # failed rounds since the last good one
        self.delivered = self.failed = self.dropped = 0
        self.losses: deque[float] = deque(maxlen=1000)  # when messages were given up, seconds since 1970
        self.refusing = False  # whether the last message that left the outbox was given up

    def put(self, message: Message) -> None:
        self.store(self.folder / f"{message.id}.json", message)
        self.wake.set()

    def store(self, path: Path, message: Message, recipients: list[str] | None = None) -> None:
        """Write a message to the outbox; recipients: only those of a mail that do not have it yet."""
        rest = {} if recipients is None else {"recipients": recipients}
        replace(path, json.dumps({**asdict(message), **rest}), 0o600, durable=True)

    def load(self, path: Path) -> tuple[Message, Mapping[str, Any]]:
        """A message of the outbox, and the channel as it concerns this message.

        Raises:
            OSError: the file can't be read.
            ValueError: the file is no message.
        """
        content = json.loads(path.read_text(encoding="utf-8"))
        try:
            recipients = content.pop("recipients", None)
            message = Message(**content)
        except (AttributeError, TypeError) as error:
            raise ValueError(str(error)) from error
        return message, self.config if recipients is None else {**self.config, "to": recipients}

    def waiting(self) -> list[Path]:
        return sorted(self.folder.glob("*.json"))

    def oldest(self, now: float) -> float:
        """Age of the oldest waiting message, in seconds."""
        ages = [now - int(found[1]) / 1000 for path in self.waiting() if (found := re.match(r"(\d+)-", path.name))]
        return max(0.0, *ages) if ages else 0.0

    def lost(self, now: float) -> int:
        """How many messages were given up within the last hour."""
        return sum(now - then < FORGET_S for then in list(self.losses))

    def run(self) -> None:
        while True:
            # A new message is a reason to try at once, also the older ones.
            self.wake.wait(retry_delay(self.attempts) if self.attempts else None)
            self.wake.clear()
            try:
                good = self.round()
            except Exception as error:  # noqa: BLE001 - a full disk, for one: the thread has to outlive it
                good = False
                log(event="error", channel=self.name, reason=f"{type(error).__name__}: {error}")
            self.attempts = 0 if good else self.attempts + 1

    def round(self) -> bool:
        """Try what is waiting, up to a receiver that does not answer; whether nothing is left to retry."""
        for path in self.waiting():
            if not self.attempt(path):
                return False
        return not self.waiting()

    def attempt(self, path: Path) -> bool:
        """Try one message; whether those behind it may be tried."""
        try:
            message, config = self.load(path)
        except (OSError, ValueError) as error:
            aside = path.with_suffix(".unreadable")
            path.replace(aside)
            self.losses.append(time.time())
            log(event="unreadable", channel=self.name, file=str(aside), reason=str(error))
            return True
        try:
            answer = SENDERS[self.config["type"]](config, message)
        except Exception as error:  # noqa: BLE001 - classified by `permanent`
            return self.fail(path, message, error)
        path.unlink()
        self.delivered += 1
        self.refusing = False
        self.log(
            "delivered",
            message,
            tries=self.attempts + 1,
            seconds=round(time.time() - message.created, 1),
            answer=answer,
            alarms=[f"{alarm['host']} {alarm['alarm']} {alarm['event']}" for alarm in message.alarms],
        )
        return True

    def fail(self, path: Path, message: Message, error: Exception) -> bool:
        """Keep the message for a retry, or give it up; whether those behind it may be tried."""
        self.failed += 1
        reason = f"{type(error).__name__}: {error}"
        self.log("failed", message, attempts=self.attempts + 1, reason=reason)
        later: list[str] = []
        reached = False  # whether a recipient has it all the same
        if isinstance(error, smtplib.SMTPRecipientsRefused):
            later = passing(error)
            refused = len(later) < len(error.recipients)
            reached = len(error.recipients) < len(listed(self.config["to"]))
        else:
            refused = permanent(error)
        expired = time.time() - message.created > self.settings.give_up_seconds
        if refused or expired:
            self.give_up(message, reason, reached=reached)
        if expired or (refused and not later):
            path.unlink()
        elif later:
            self.store(path, message, later)
        return refused or isinstance(error, ANSWERS)

    def give_up(self, message: Message, reason: str, *, reached: bool) -> None:
        self.dropped += 1
        self.losses.append(time.time())
        self.refusing = not reached
        self.log("dropped", message, reason=reason)
        if not reached:
            self.report(self.name, message, reason)

    def log(self, event: str, message: Message, **more: Any) -> None:
        log(event=event, channel=self.name, message=message.id, subject=message.subject, **more)
