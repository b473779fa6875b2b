#!/usr/bin/python3
"""The lab's outside world: receives Phoenix's messages to people, and notices a missing heartbeat.

Runs on a host of the group `receivers`.

usage: receiver.py smtp|http FOLDER

smtp  a mail server on port 2525 (aiosmtpd): accepts every mail
http  a web server on port 8025: accepts POST /webhook, /slack and /heartbeat. GET /heartbeat is the outside watcher:
      200 while the last heartbeat is younger than three minutes, else 503

Each message received is a line of JSON in FOLDER/messages: kind, time (seconds since 1970), subject, body.
"""

from __future__ import annotations

import email
import email.policy
import http.server
import json
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

LATE_S = 180.0
FOLDER = Path(sys.argv[2])


def record(kind: str, subject: str, body: Any) -> None:
    with (FOLDER / "messages").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"kind": kind, "time": time.time(), "subject": subject, "body": body}) + "\n")


class Mailbox:
    """Handler of aiosmtpd."""

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        content = mail.get_body().get_content()  # type: ignore[union-attr]
        record("mail", str(mail["Subject"]), {"from": envelope.mail_from, "to": envelope.rcpt_tos, "text": content})
        return "250 taken"


class Web(http.server.BaseHTTPRequestHandler):
    """Webhook, a stand-in for Slack's, and the watcher of the heartbeat."""

    def answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/heartbeat":
            (FOLDER / "heartbeat").write_text(json.dumps(body), encoding="utf-8")
        elif self.path in ("/webhook", "/slack"):
            subject = body.get("subject") or body.get("text", "").partition("\n")[0]
            record(self.path[1:], subject, body)
        else:
            return self.answer(404, "no such receiver\n")
        return self.answer(200, "ok\n")

    def do_GET(self) -> None:
        beat = FOLDER / "heartbeat"
        age = time.time() - beat.stat().st_mtime if beat.exists() else float("inf")
        self.answer(200 if age < LATE_S else 503, f"the last heartbeat is {age:.0f} s old\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: messages are recorded already."""


class Server(http.server.ThreadingHTTPServer):
    """At every address of either kind."""

    address_family = socket.AF_INET6

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def main() -> None:
    if sys.argv[1] == "smtp":
        from aiosmtpd.controller import Controller  # type: ignore[import-not-found]  # noqa: PLC0415 - on that host only

        Controller(Mailbox(), hostname="", port=2525).start()  # at every address of either kind
        threading.Event().wait()
    Server(("::", 8025), Web).serve_forever()


if __name__ == "__main__":
    main()
