"""One request of a Git host's webhook, on the socket that is standard input: phoenixctl pipeline hook

Whoever knows the secret (the unit's credential `secret`) has the Git host asked at once, and can do nothing else: of
the request only its signature counts, and what it says is not read. So one that is sent again does no harm.
GitHub and Gitea sign the body (HMAC-SHA256), GitLab sends the secret itself.
"""

from __future__ import annotations

import hashlib
import hmac
import http.server
import os
import signal
import socket
import sys
from email.message import Message
from pathlib import Path
from typing import Any

ASKED = Path("/var/lib/phoenix-ci/webhook/asked")
SECONDS = 10  # for the whole request; GitHub waits no longer for an answer
MOST_BYTES = 8 << 20


class Late(BaseException):
    """The time is over; no handler of errors on the way takes it for one of its own."""


def signed(headers: Message, digest: str, secret: str) -> bool:
    """Whether one of the headers proves that its sender knows the secret, compared in constant time."""
    # https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries
    # https://docs.gitea.com/usage/webhooks, https://docs.gitlab.com/user/project/integrations/webhooks/
    proofs = {
        "X-Hub-Signature-256": f"sha256={digest}",
        "X-Gitea-Signature": digest,
        "X-Gitlab-Token": secret,
    }
    found = [hmac.compare_digest(headers.get(name, "").encode(), proof.encode()) for name, proof in proofs.items()]
    return bool(secret) and any(found)


class Request(http.server.BaseHTTPRequestHandler):
    """One request on one connection."""

    timeout = SECONDS
    server_version, sys_version = "phoenix", ""
    error_message_format, error_content_type = "%(code)d %(message)s\n", "text/plain"
    secret = ""
    asked = ASKED

    def do_POST(self) -> None:
        lengths = self.headers.get_all("Content-Length") or []
        if (
            len(lengths) != 1
            or not lengths[0].isascii()
            or not lengths[0].isdigit()
            or "Transfer-Encoding" in self.headers
        ):
            return self.send_error(411)
        left = int(lengths[0])
        if left > MOST_BYTES:
            return self.send_error(413)
        body = hmac.new(self.secret.encode(), digestmod=hashlib.sha256)
        while left:
            block = self.rfile.read(min(left, 1 << 16))
            if not block:
                return self.send_error(400)
            body.update(block)
            left -= len(block)
        if not signed(self.headers, body.hexdigest(), self.secret):
            return self.send_error(403)
        self.asked.touch()
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, _format: str, *_arguments: Any) -> None:
        """Nothing of what a client sends: send_error() passes its words on as well."""

    def log_request(self, code: Any = "-", _size: Any = "-") -> None:
        print(f"{self.client_address[0]}: {int(code)}", flush=True)


def serve(connection: socket.socket, secret: str, asked: Path) -> None:
    """Answer the connection's one request."""

    def late(*_: Any) -> None:
        raise Late

    signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    handler = type("Answer", (Request,), {"secret": secret, "asked": asked})
    try:
        handler(connection, connection.getpeername() or ("-",), None)
    except Late:
        print("no whole request in time", flush=True)
    except (ConnectionError, socket.timeout) as error:
        print(f"the connection ended: {error}", flush=True)
    finally:
        signal.alarm(0)


def main() -> int:
    secret = Path(os.environ["CREDENTIALS_DIRECTORY"], "secret").read_text(encoding="utf-8").strip()
    if not secret:
        print("phoenixctl pipeline hook: the secret is empty", file=sys.stderr)
        return 1
    with socket.socket(fileno=0) as connection:
        serve(connection, secret, ASKED)
    return 0
